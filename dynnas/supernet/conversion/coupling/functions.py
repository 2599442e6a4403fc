"""Rules of torch's functions that are followed as a whole: recurrent layers and attention with its weights.

Their operators differ by processor and mode, and some keep a size in numbers of their own; what they do with
channels is simple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dynnas.supernet.conversion.coupling.channels import Axis
from dynnas.supernet.conversion.coupling.tracing import Facts, Tracer

FunctionRule = Callable[[Tracer, Sequence[Any], Any, Any], None]
"""Function of (tracer, arguments, options, result) that says what the result carries."""

_RULES: dict[str, FunctionRule] = {}


def function_rule_of(func: Any) -> FunctionRule | None:
    """Return the rule of a function that is followed as a whole; None where its operators are followed."""
    return _RULES.get(getattr(func, "__name__", ""))


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Rows of a recurrent layer's weights for each hidden unit, by the name of torch's function."""


def _give(tracer: Tracer, tensor: Any, last: Axis) -> None:
    if isinstance(tensor, Tensor):
        tracer.set(tensor, Facts((*(None,) * (tensor.dim() - 1), last), from_input=True))


def _rows(tracer: Tracer, tensor: Tensor, gates: int, hidden: Axis) -> Axis:
    """Join what belongs to a hidden unit in all gates; return the channels of the units."""
    rows = tracer.axes(tensor)[0]
    if rows is None:
        return hidden
    table = rows.reshape(gates, -1)
    tracer.couplings.join_all(table)
    return table[0] if hidden is None else tracer.couplings.join(hidden, table[0])


def _recurrent(tracer: Tracer, args: Sequence[Any], kwargs: Any, result: Any, gates: int) -> None:
    packed = not isinstance(args[3], bool)
    state, weights, biased, layers = (args[2:6] if packed else args[1:5])[:4]
    directions = 2 if args[8 if packed else 7] else 1
    each = len(weights) // (layers * directions)
    join = tracer.couplings.join
    hidden: Axis = None
    given: Axis = tracer.axes(args[0])[-1]
    out: Axis = None
    for layer in range(layers):
        for direction in range(directions):
            first = (layer * directions + direction) * each
            into, again, *rest = weights[first : first + each]
            for tensor in (into, again, *(rest[:2] if biased else ())):
                hidden = _rows(tracer, tensor, gates, hidden)
            join(given, tracer.axes(into)[1], "is multiplied with an axis of fixed size")
            projection = rest[2 if biased else 0 :]
            if projection:
                less, inner = tracer.axes(projection[0])
                join(hidden, inner)
                out = less if out is None else join(out, less)
            else:
                out = hidden
            join(out, tracer.axes(again)[1])
        given = None if out is None else np.concatenate([out] * directions)
    for tensor in state if isinstance(state, tuple | list) else (state,):
        if (known := tracer.axes(tensor)[-1]) is not None:
            join(known, out if tensor.shape[-1] == len(known) and out is not None else None)
    output, *states = result
    _give(tracer, output, given)
    for tensor, axis in zip(states, (out, hidden), strict=False):
        _give(tracer, tensor, axis)


def _cell(tracer: Tracer, args: Sequence[Any], kwargs: Any, result: Any, gates: int) -> None:
    """Follow one step of a recurrent layer."""
    x, state, into, again, *biases = args
    hidden: Axis = None
    for tensor in (into, again, *(each for each in biases if each is not None)):
        hidden = _rows(tracer, tensor, gates, hidden)
    join = tracer.couplings.join
    join(tracer.axes(x)[-1], tracer.axes(into)[1], "is multiplied with an axis of fixed size")
    join(hidden, tracer.axes(again)[1])
    for tensor in state if isinstance(state, tuple | list) else (state,):
        if (known := tracer.axes(tensor)[-1]) is not None:
            join(known, hidden)
    for tensor in result if isinstance(result, tuple | list) else (result,):
        _give(tracer, tensor, hidden)


def _attention(tracer: Tracer, args: Sequence[Any], kwargs: Any, result: Any) -> None:
    """Follow attention whose size is that of its input: heads get narrower, together with what they read."""
    query, key, value, _, heads, weight, bias, bias_k, bias_v = args[:9]
    out_weight, out_bias = args[11:13]
    join = tracer.couplings.join
    last = [tracer.axes(each)[-1] for each in (query, key, value)]
    own = [axis for each in (weight, out_weight) if each is not None for axis in tracer.axes(each)]
    if weight is None or bias_k is not None or bias_v is not None or any(axis is None for axis in last + own):
        for each in tree_leaves((args, kwargs)):
            tracer.fix(each, "belongs to attention whose inputs differ in size, or are of fixed size")
        return
    rows, columns = tracer.axes(weight)
    assert rows is not None
    size = query.shape[-1]
    for axis in (*last[1:], columns, *tracer.axes(out_weight), rows[:size]):
        join(last[0], axis)
    if bias is not None:
        join(rows, tracer.axes(bias)[0])
    tracer.couplings.join_all(rows.reshape(3 * heads, -1))
    if out_bias is not None:
        join(last[0], tracer.axes(out_bias)[0])
    output, *rest = result
    _give(tracer, output, last[0])
    for each in rest:
        _give(tracer, each, None)


for _name, _gates in GATES.items():
    _RULES[_name] = partial(_recurrent, gates=_gates)
    _RULES[f"{_name}_cell"] = partial(_cell, gates=_gates)
_RULES["multi_head_attention_forward"] = _attention
