"""Rules of operators that rearrange channels: pixel shuffles, halves that gate each other, weight norms."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from dynnas.supernet.conversion.coupling.operators import Axes, operator_rule
from dynnas.supernet.conversion.coupling.tracing import Tracer


@operator_rule("pixel_shuffle")
def _pixel_shuffle(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    """Join the channels that become the pixels of one."""
    axes = list(tracer.axes(args[0]))
    if (axis := axes[-3]) is not None:
        rows = axis.reshape(-1, args[1] ** 2)
        tracer.couplings.join_all(rows.T)
        axes[-3] = np.ascontiguousarray(rows[:, 0])
    return tuple(axes)


@operator_rule("pixel_unshuffle")
def _pixel_unshuffle(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = list(tracer.axes(args[0]))
    if (axis := axes[-3]) is not None:
        axes[-3] = np.repeat(axis, args[1] ** 2)
    return tuple(axes)


@operator_rule("glu")
def _glu(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    """Join the two halves: one gates the other."""
    at = (args[1] if len(args) > 1 else kwargs.get("dim", -1)) % args[0].dim()
    axes = list(tracer.axes(args[0]))
    if (axis := axes[at]) is not None:
        halves = axis.reshape(2, -1)
        tracer.couplings.join_all(halves)
        axes[at] = halves[0]
    return tuple(axes)


@operator_rule("_weight_norm_interface", "_weight_norm")
def _weight_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """Pass the axes of the directions; their lengths have one axis."""
    direction, length = tracer.axes(args[0]), list(tracer.axes(args[1]))
    at = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    if args[1].dim() == args[0].dim() and args[1].shape[at] > 1:
        length[at] = tracer.couplings.join(direction[at], length[at])
    return direction if isinstance(result, Tensor) else [direction, tuple(length)]


@operator_rule("_pack_padded_sequence")
def _packed(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes = tracer.axes(args[0])
    return [(None, *axes[2:]), (None,)]


@operator_rule("_pad_packed_sequence")
def _padded(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes = tracer.axes(args[0])
    return [(None, None, *axes[1:]), (None,)]
