"""Rules of torch's layers and products: what they do with channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from dynnas.supernet.conversion.coupling.channels import Axis
from dynnas.supernet.conversion.coupling.operators import Axes, operator_rule
from dynnas.supernet.conversion.coupling.tracing import Tracer


@operator_rule("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable")
def _convolution(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    given, own = tracer.axes(x), tracer.axes(weight)
    join, fix = tracer.couplings.join, tracer.couplings.fix
    for axis in own[2:]:
        fix(axis, "is an axis of a kernel")
    if groups == 1:
        incoming, outgoing = (own[0], own[1]) if transposed else (own[1], own[0])
        join(given[1], incoming, "reads an image")
        out = outgoing
    elif transposed:
        out = _transposed_groups(tracer, given[1], weight, groups)
    else:
        out = _grouped(tracer, given[1], weight, groups)
    if bias is not None and out is not None:
        join(out, tracer.axes(bias)[0])
    return (given[0], out, *(None,) * (result.dim() - 2))


def _transposed_groups(tracer: Tracer, given: Axis, weight: Tensor, groups: int) -> Axis:
    """Channels of a transposed convolution in groups, which stay or go as a whole."""
    incoming, inner = tracer.axes(weight)[:2]
    couplings, each = tracer.couplings, weight.shape[1]
    couplings.fix(inner, "is the inside of a group")
    name = tracer.facts(weight).parameter
    given = couplings.join(given, incoming, "reads an image")
    if given is None or name is None:
        couplings.fix(given, "is read by a kernel that other layers compute")
        out = couplings.new(groups * each)
        couplings.fix(out, "belongs to a transposed convolution whose input is of fixed size")
        return out
    out = couplings.new(groups * each)
    couplings.join_all(np.concatenate([given.reshape(groups, -1), out.reshape(groups, each)], axis=1).T)
    tracer.whole_groups.add(name)
    return out


def _grouped(tracer: Tracer, given: Axis, weight: Tensor, groups: int) -> Axis:
    """Channels of a convolution in groups; many small groups go as a whole, few large ones get narrower."""
    outgoing, inner = tracer.axes(weight)[:2]
    couplings = tracer.couplings
    each = weight.shape[1]
    if given is None:
        given = couplings.new(groups * each)
        couplings.fix(given, "reads an image")
    incoming = given.reshape(groups, each)
    if outgoing is None:
        couplings.fix(given, "is read by a kernel that other layers compute")
        return None
    leaving = outgoing.reshape(groups, -1)
    if groups >= each:
        couplings.fix(inner, "is the inside of a group")
        together = np.concatenate([incoming, leaving], axis=1)
        couplings.join_all(together.T)
        if (name := tracer.facts(weight).parameter) is not None:
            tracer.whole_groups.add(name)
        else:
            couplings.fix(given, "is read by a kernel that other layers compute")
    else:
        couplings.join_all(incoming)
        couplings.join_all(leaving)
        if inner is not None:
            couplings.join(incoming[0], inner)
    return outgoing


@operator_rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_impl_index",
    "cudnn_batch_norm",
    "_batch_norm_with_update",
    "_native_batch_norm_legit_functional",
    "batch_norm",
)
def _batch_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes = list(tracer.axes(args[0]))
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            axes[1] = tracer.couplings.join(axes[1], tracer.axes(tensor)[0])
    first = result if isinstance(result, Tensor) else result[0]
    rest = [] if isinstance(result, Tensor) else [(None,) * each.dim() for each in result[1:]]
    assert first.dim() == len(axes)
    return tuple(axes) if isinstance(result, Tensor) else [tuple(axes), *rest]


@operator_rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def _layer_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes = list(tracer.axes(args[0]))
    count = len(args[1])
    for tensor in args[2:4]:
        if isinstance(tensor, Tensor):
            for at in range(-count, 0):
                axes[at] = tracer.couplings.join(axes[at], tracer.axes(tensor)[at])
    for at in range(-count, 0):
        tracer.follow_module("normalized_shape", count + at, axes[at])
    if isinstance(result, Tensor):
        return tuple(axes)
    return [tuple(axes), *((None,) * each.dim() for each in result[1:])]


@operator_rule("native_group_norm", "group_norm")
def _group_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes = list(tracer.axes(args[0]))
    groups = args[6] if func.name() == "aten::native_group_norm" else args[1]
    for tensor in args[1:3]:
        if isinstance(tensor, Tensor):
            axes[1] = tracer.couplings.join(axes[1], tracer.axes(tensor)[0])
    if axes[1] is not None and groups > 1:
        tracer.couplings.join_all(axes[1].reshape(groups, -1))
    tracer.follow_module("num_channels", None, axes[1])
    if isinstance(result, Tensor):
        return tuple(axes)
    return [tuple(axes), *((None,) * each.dim() for each in result[1:])]


@operator_rule("mm", "bmm", "matmul")
def _product(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    one, other = tracer.axes(args[0]), tracer.axes(args[1])
    tracer.couplings.join(one[-1], other[-2], "is multiplied with an axis of fixed size")
    batch = tuple(tracer.couplings.join(a, b) for a, b in zip(one[:-2], other[:-2], strict=True))
    return (*batch, one[-2], other[-1])


@operator_rule("addmm", "baddbmm")
def _added_product(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    *batch, rows, columns = _product(tracer, func, args[1:], kwargs, result)
    bias = (None,) * (result.dim() - args[0].dim()) + tracer.axes(args[0])
    shape = (1,) * (result.dim() - args[0].dim()) + tuple(args[0].shape)
    if shape[-2] > 1:
        rows = tracer.couplings.join(rows, bias[-2])
    if shape[-1] > 1:
        columns = tracer.couplings.join(columns, bias[-1])
    return (*batch, rows, columns)


@operator_rule("linear")
def _linear(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes, (out, incoming) = tracer.axes(args[0]), tracer.axes(args[1])
    tracer.couplings.join(axes[-1], incoming, "is multiplied with an axis of fixed size")
    if len(args) > 2 and args[2] is not None:
        out = tracer.couplings.join(out, tracer.axes(args[2])[0])
    return (*axes[:-1], out)


@operator_rule("_trilinear")
def _trilinear(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    """Follow three factors that are spread over common axes, multiplied and summed: `nn.Bilinear`."""
    found: dict[int, Axis] = {}
    for tensor, added in zip(args[:3], args[3:6], strict=True):
        own = [at for at in range(tensor.dim() + len(added)) if at not in added]
        for at, axis in zip(own, tracer.axes(tensor), strict=True):
            found[at] = tracer.couplings.join(found[at], axis) if at in found else axis
    return tuple(axis for at, axis in sorted(found.items()) if at not in args[6])


@operator_rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "scaled_dot_product_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def _attention(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    query, key, value = (tracer.axes(each) for each in args[:3])
    join = tracer.couplings.join
    join(query[-1], key[-1])
    join(key[-2], value[-2])
    batch = []
    for at in range(len(query) - 2):
        axis = join(query[at], key[at]) if args[0].shape[at] == args[1].shape[at] else query[at]
        batch.append(join(axis, value[at]) if args[0].shape[at] == args[2].shape[at] else axis)
    mask = kwargs.get("attn_mask")
    if isinstance(mask, Tensor):
        for axis in tracer.axes(mask):
            tracer.couplings.fix(axis, "is a mask of attention")
    axes = (*batch, query[-2], value[-1])
    if isinstance(result, Tensor):
        return axes
    return [axes, *((None,) * each.dim() if isinstance(each, Tensor) else () for each in result[1:])]
