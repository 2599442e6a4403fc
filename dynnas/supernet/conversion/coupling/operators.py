"""Rules of torch's operators: from the axes of their arguments to those of their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dynnas.supernet.conversion.coupling.channels import Axis
from dynnas.supernet.conversion.coupling.sizes import Count
from dynnas.supernet.conversion.coupling.tracing import Rule, Tracer
from dynnas.supernet.conversion.coupling.views import viewed

Axes = tuple[Axis, ...]
_RULES: dict[str, Rule] = {}


def rule_of(func: Any) -> Rule | None:
    """Return the rule of an operator; None where there is none."""
    name = func.name().removeprefix("aten::").partition(".")[0]
    found = _RULES.get(name)
    if found is None and torch.Tag.pointwise in func.tags:
        return _pointwise
    return found


def operator_rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def combined(tracer: Tracer, tensors: Sequence[Tensor], dims: int) -> Axes:
    """Return the axes of tensors that are combined element by element, aligned at their last ones."""
    found: list[Axis] = [None] * dims
    sizes = [1] * dims
    for tensor in tensors:
        for back, (axis, size) in enumerate(
            zip(reversed(tracer.axes(tensor)), reversed(tensor.shape), strict=True), 1
        ):
            at = dims - back
            if size == 1:
                continue
            if sizes[at] == 1:
                found[at], sizes[at] = axis, size
            else:
                found[at] = tracer.couplings.join(found[at], axis)
    return tuple(found)


@operator_rule(
    "hardswish", "hardswish_", "prelu", "_prelu_kernel", "where", "masked_fill", "masked_fill_",
    "addcmul", "lerp", "native_dropout", "bernoulli_", "fill_", "zero_", "zeros_like", "ones_like",
    "empty_like", "full_like", "rand_like", "randn_like", "copy_", "clone", "contiguous", "_to_copy",
    "alias", "detach", "lift_fresh", "lift_fresh_copy", "logical_not", "rsub", "relu6", "celu", "elu",
    "glu_jvp", "remainder", "bitwise_and", "bitwise_not", "_conj", "view_as_real",
    "native_batch_norm_stats"
)  # fmt: skip
def _pointwise(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    first = result if isinstance(result, Tensor) else result[0]
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    axes = combined(tracer, tensors, first.dim())
    return axes if isinstance(result, Tensor) else [axes] * len(result)


@operator_rule(
    "arange", "scalar_tensor", "rand", "randn", "eye", "linspace", "empty_strided", "_local_scalar_dense",
    "tril_indices", "triu_indices", "is_nonzero", "equal"
)  # fmt: skip
def _fresh(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    return (None,) * result.dim() if isinstance(result, Tensor) else ()


@operator_rule("zeros", "ones", "empty", "full", "new_zeros", "new_ones", "new_empty", "new_full")
def _filled(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    """Give channels to axes as long as a number that is known, such as those of a first hidden state."""
    given = tracer.sizes[: result.dim()]
    if tuple(given) != tuple(result.shape):
        return (None,) * result.dim()
    return tuple(tracer.counted(size) for size in given)


@operator_rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten"
)
def _view(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    source = args[0]
    found = viewed(tracer.couplings, tracer.axes(source), source.shape, result.shape)
    given = tracer.sizes
    if len(given) == result.dim() and all(
        size in (-1, own) for size, own in zip(given, result.shape, strict=True)
    ):
        places: Sequence[int] = range(len(given))
    else:  # unflatten(dim, sizes)
        first = given[0] % source.dim() if given else 0
        places = range(first - 1, first - 1 + len(given))
    for size, at in zip(given, places, strict=False):
        if 0 <= at < result.dim() and int(size) == result.shape[at]:
            tracer.follow(size, found[at])
        if (
            isinstance(size, Count) and size.parts > 1
        ):  # heads, say, that are as wide as those of something else
            for axis in tracer.axes(source):
                tracer.same_number(size, axis)
    return found


@operator_rule("permute")
def _permute(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = tracer.axes(args[0])
    return tuple(axes[at] for at in args[1])


@operator_rule("transpose", "transpose_")
def _transpose(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = list(tracer.axes(args[0]))
    axes[args[1]], axes[args[2]] = axes[args[2]], axes[args[1]]
    return tuple(axes)


@operator_rule("t", "t_", "numpy_T")
def _t(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    return tracer.axes(args[0])[::-1]


@operator_rule("expand")
def _expand(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = tracer.axes(args[0])
    found = (None,) * (result.dim() - len(axes)) + axes
    given = tracer.sizes
    if len(given) == result.dim():
        for size, axis in zip(given, found, strict=True):
            tracer.follow(size, axis)
    return found


@operator_rule("select")
def _select(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes, at = list(tracer.axes(args[0])), args[1] % args[0].dim()
    tracer.couplings.fix(axes.pop(at), "is selected by its number")
    return tuple(axes)


@operator_rule("unbind")
def _unbind(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes, at = list(tracer.axes(args[0])), (args[1] if len(args) > 1 else 0) % args[0].dim()
    tracer.couplings.fix(axes.pop(at), "is taken apart, one by one")
    return [tuple(axes)] * len(result)


@operator_rule("slice")
def _slice(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    source, at = args[0], (args[1] if len(args) > 1 else 0) % args[0].dim()
    start = (args[2] if len(args) > 2 else None) or 0
    step = args[4] if len(args) > 4 else 1
    axes = list(tracer.axes(source))
    whole = axes[at]
    if whole is None or result.shape[at] == source.shape[at]:
        return tuple(axes)
    start = start + source.shape[at] if start < 0 else start
    axes[at] = whole[start : start + step * result.shape[at] : step]
    sizes = [each for each in tracer.sizes if hasattr(each, "attribute")]
    ends = (result.shape[at] + start, start)
    if step == 1 and sizes and all(int(each) in ends for each in sizes):
        for each in sizes:
            tracer.follow(each, whole[: int(each)])
    else:
        tracer.couplings.fix(whole, "is cut at a constant place")
    return tuple(axes)


@operator_rule(
    "split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes",
    "split_with_sizes_copy", "tensor_split"
)  # fmt: skip
def _split(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    at = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    axes = list(tracer.axes(args[0]))
    whole = axes[at]
    if whole is None:
        return [tuple(axes)] * len(result)
    sizes = [each.shape[at] for each in result]
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    if len(set(sizes)) == 1:
        tracer.couplings.join_all(np.stack(parts))
    given = tracer.sizes
    for first in range(len(given) - len(sizes) + 1):
        if [int(each) for each in given[first : first + len(sizes)]] == sizes:
            for size, part in zip(given[first:], parts, strict=False):
                tracer.follow(size, part)
            for size in given[first : first + len(sizes)]:
                tracer.follow_rest(size, whole)
            break
    else:
        for size in given:
            if int(size) == sizes[0]:
                tracer.follow(size, parts[0])
    return [(*axes[:at], part, *axes[at + 1 :]) for part in parts]


@operator_rule("cat", "concat", "concatenate")
def _cat(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    at = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.dim()
    tensors = [each for each in args[0] if each.dim() == result.dim()]
    found: list[Axis] = []
    for place in range(result.dim()):
        axes = [tracer.axes(each)[place] for each in tensors]
        if place != at:
            axis = axes[0]
            for other in axes[1:]:
                axis = tracer.couplings.join(axis, other)
            found.append(axis)
        elif all(axis is None for axis in axes):
            found.append(None)
        else:
            parts = []
            for tensor, axis in zip(tensors, axes, strict=True):
                if axis is None:
                    axis = tracer.couplings.new(tensor.shape[at])
                    tracer.couplings.fix(axis, "is of fixed size")
                parts.append(axis)
            found.append(np.concatenate(parts))
    return tuple(found)


@operator_rule("stack")
def _stack(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    at = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % result.dim()
    found = list(combined(tracer, args[0], result.dim() - 1))
    found.insert(at, None)
    return tuple(found)


@operator_rule("repeat")
def _repeat(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = tracer.axes(args[0])
    axes = (None,) * (result.dim() - len(axes)) + axes
    return tuple(
        None if axis is None else np.tile(axis, times) for axis, times in zip(axes, args[1], strict=True)
    )


@operator_rule("roll", "flip")
def _moved(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = tracer.axes(args[0])
    for at in args[2] if len(args) > 2 else args[1]:
        tracer.couplings.fix(axes[at], "changes places by constant steps")
    return axes


@operator_rule("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "reflection_pad1d")
def _pad(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    source, pads, found = args[0], args[1], list(tracer.axes(args[0]))
    for place in range(len(pads) // 2):
        before, after = pads[2 * place], pads[2 * place + 1]
        at = source.dim() - 1 - place
        axis = found[at]
        if axis is None or not (before or after):
            continue
        ends = [tracer.couplings.new(max(size, 0)) for size in (before, after)]
        for end in ends:
            tracer.couplings.fix(end, "is padding")
        kept = axis[max(-before, 0) : len(axis) - max(-after, 0)]
        if min(before, after) < 0:
            tracer.couplings.fix(axis, "is cut at a constant place")
        found[at] = np.concatenate([ends[0], kept, ends[1]])
    return tuple(found)


@operator_rule(
    "mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm",
    "prod", "max", "min", "any", "all", "logsumexp", "argmax", "argmin", "count_nonzero"
)  # fmt: skip
def _reduce(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """Drop reduced axes, or leave size 1; reducing over channels is defined for any number of them."""
    source = args[0]
    first = result if isinstance(result, Tensor) else result[0]
    axes = tracer.axes(source)
    if first.dim() == source.dim():
        found = tuple(
            axis if size == own else None
            for axis, size, own in zip(axes, first.shape, source.shape, strict=True)
        )
    else:
        place = 2 if "linalg_vector_norm" in func.name() else 1
        dims = args[place] if len(args) > place else kwargs.get("dim")
        listed = [dims] if isinstance(dims, int) else dims or range(source.dim())
        gone = {at % max(source.dim(), 1) for at in listed}
        found = tuple(axis for at, axis in enumerate(axes) if at not in gone)
        found = found if len(found) == first.dim() else (None,) * first.dim()
    return found if isinstance(result, Tensor) else [found] * len(result)


@operator_rule("_softmax", "_log_softmax", "cumsum", "softmax", "log_softmax", "cumprod", "triu", "tril")
def _along(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    return tracer.axes(args[0])


@operator_rule("topk", "sort")
def _chosen(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    axes = list(tracer.axes(args[0]))
    at = -1 if len(args) < 3 else args[2]
    tracer.couplings.fix(axes[at], "is sorted")
    axes[at] = None
    return [tuple(axes)] * len(result)


@operator_rule("index")
def _index(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    """Fix what is picked by a tensor of numbers; the other axes stay where they are."""
    axes, chosen = tracer.axes(args[0]), list(args[1])
    chosen += [None] * (len(axes) - len(chosen))
    kept: list[Axis] = []
    places = [at for at, each in enumerate(chosen) if each is not None]
    for at in places:
        tracer.couplings.fix(axes[at], "is picked by numbers")
    dims = result.dim() - (len(axes) - len(places))
    adjacent = not places or places == list(range(places[0], places[-1] + 1))
    first = places[0] if adjacent and places else 0
    kept = [axis for at, axis in enumerate(axes) if at not in places]
    return tuple(kept[:first] + [None] * dims + kept[first:])


@operator_rule("index_select", "gather", "take_along_dim")
def _picked(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = list(tracer.axes(args[0]))
    tracer.couplings.fix(axes[args[1]], "is picked by numbers")
    axes[args[1]] = None
    return tuple(axes)


@operator_rule("embedding")
def _embedding(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    rows, width = tracer.axes(args[0])
    tracer.couplings.fix(rows, "is picked by numbers")
    return (*(None,) * (result.dim() - 1), width)


@operator_rule(
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
    "max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "adaptive_avg_pool2d", "mkldnn_max_pool2d",
    "avg_pool1d", "max_pool1d", "_adaptive_avg_pool1d", "avg_pool3d", "grid_sampler_2d",
    "upsample_nearest1d", "upsample_linear1d", "_upsample_nearest_exact2d", "adaptive_avg_pool1d",
    "max_pool3d_with_indices", "_adaptive_avg_pool3d", "adaptive_max_pool3d", "upsample_nearest3d",
    "upsample_trilinear3d", "max_pool1d_with_indices", "adaptive_max_pool1d", "fractional_max_pool2d"
)  # fmt: skip
def _pool(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    def one(tensor: Tensor) -> Axes:
        axes = tracer.axes(args[0])
        return (*axes[:2], *(None,) * (tensor.dim() - 2)) if tensor.dim() >= 4 else (None, *axes[1:2], None)

    return one(result) if isinstance(result, Tensor) else [one(each) for each in result]


@operator_rule("as_strided_", "as_strided")
def _strided(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    """Pass what pooling says of its result's place in memory; fix anything else."""
    axes = tracer.axes(args[0])
    if len(axes) == result.dim() and (args[0] is result or args[0].shape == result.shape):
        return axes
    tracer.fix(args[0], "is seen by its place in memory")
    return (None,) * result.dim()


@operator_rule("im2col")
def _im2col(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axis = tracer.axes(args[0])[1]
    taps = result.shape[1] // args[0].shape[1]
    return (None, None if axis is None else np.repeat(axis, taps), None)


@operator_rule("channel_shuffle", "native_channel_shuffle")
def _shuffle(tracer: Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Axes:
    axes = list(tracer.axes(args[0]))
    if axes[1] is not None:
        rows = axes[1].reshape(args[1], -1)
        tracer.couplings.join_all(rows)
        axes[1] = rows.T.reshape(-1)
    return tuple(axes)
