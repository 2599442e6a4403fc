"""A reader of Core ML programs that evaluates them in torch, on systems that have no Core ML.

The program is read from a saved package, with its weights, and every operation is computed by what Apple's
reference of the Model Intermediate Language (MIL) says of it. It shares nothing with the converter, so that
equal outputs say that the package holds the network. It is no runtime: its times mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.errors import ExportError, require

Given = Mapping[str, Any]
"""The inputs of an operation by name: tensors, or lists of them, and None for those that are not given."""

Operation = Callable[[Given], Any]
"""Computes an operation from its inputs: a tensor, or a tuple for several outputs."""


class MilProgram:
    """A program of a package, which can be evaluated anywhere.

    Args:
        path: of the `.mlpackage`.

    Attributes:
        outputs: names of the outputs.

    Raises:
        MissingExtraError: coremltools is not installed.
        ExportError: the program has an operation that is not known here.
    """

    def __init__(self, path: Path) -> None:
        tools = require("coremltools", "coreml")
        reader = require("coremltools.converters.mil.frontend.milproto.load", "coreml")
        data = path / "Data" / "com.apple.CoreML"
        spec = tools.utils.load_spec(str(path))
        program = reader.load(spec, spec.specificationVersion, str(data / "weights"))
        self._function = program.functions["main"]
        self.outputs = [output.name for output in self._function.outputs]
        found = {op.op_type for op in self._function.operations} - {"const"}
        if unknown := sorted(found - OPERATIONS.keys()):
            raise ExportError(
                f"{path.name}: this system has no Core ML, and the check in its place does not know the "
                f"operations {', '.join(unknown)}; export it on macOS, or in another format"
            )

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output by its name, for the inputs by theirs."""
        known: dict[str, Any] = dict(inputs)

        def value_of(given: Any) -> Any:
            if given is None or isinstance(given, list | tuple):
                return None if given is None else [value_of(each) for each in given]
            return known[given.name] if given.name in known else _constant(given.val)

        for op in self._function.operations:
            if op.op_type == "const":
                continue
            operation = OPERATIONS[op.op_type]
            found = operation({name: value_of(given) for name, given in op.inputs.items()})
            made = found if isinstance(found, tuple | list) else (found,)
            known |= {output.name: each for output, each in zip(op.outputs, made, strict=True)}
        return {output.name: value_of(output) for output in self._function.outputs}


def _constant(value: Any) -> Any:
    """Return a constant as a tensor; text as it is."""
    if isinstance(value, str | None):
        return value
    if isinstance(value, list | tuple):
        return [_constant(each) for each in value]
    return torch.from_numpy(np.array(value))


def _ints(given: Tensor) -> list[int]:
    return [int(each) for each in given.reshape(-1).tolist()]


def _one(name: str, operation: Callable[..., Tensor]) -> Operation:
    """Return an operation of one tensor and nothing else."""
    return lambda given: operation(given[name])


def _two(operation: Callable[..., Tensor]) -> Operation:
    """Return an operation of two tensors that are broadcast."""
    return lambda given: operation(given["x"], given["y"])


def _reduce(operation: Callable[..., Any]) -> Operation:
    """Return an operation over axes, all of them where none are given."""

    def run(given: Given) -> Tensor:
        x = given["x"]
        axes = list(range(x.ndim)) if given.get("axes") is None else _ints(given["axes"])
        return operation(x, axes, bool(given["keep_dims"]))

    return run


def _arg(operation: Callable[..., Tensor]) -> Operation:
    return lambda given: operation(given["x"], int(given["axis"]), bool(given["keep_dims"])).int()


def _paddings(given: Given, kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Return the padding of the last axes, as `torch.nn.functional.pad` takes it."""
    kind = given["pad_type"]
    dilations = _ints(given["dilations"]) if given.get("dilations") is not None else [1] * len(kernel)
    if kind == "custom":
        sides = _ints(given["pad"])
        pairs = [sides[2 * axis : 2 * axis + 2] for axis in range(len(kernel))]
    elif kind == "valid":
        pairs = [[0, 0]] * len(kernel)
    else:
        pairs = []
        for size, length, stride, dilation in zip(
            given["x"].shape[2:], kernel, strides, dilations, strict=True
        ):
            whole = max(0, (-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size)
            pairs.append([whole // 2, whole - whole // 2][:: -1 if kind == "same_lower" else 1])
    return [*chain.from_iterable(reversed(pairs))]


def _conv(given: Given) -> Tensor:
    weight, strides = given["weight"], _ints(given["strides"])
    padded = F.pad(given["x"], _paddings(given, weight.shape[2:], strides))
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[padded.ndim]
    return convolve(
        padded, weight, given.get("bias"), strides, 0, _ints(given["dilations"]), int(given["groups"])
    )


def _conv_transpose(given: Given) -> Tensor:
    x, strides = given["x"], _ints(given["strides"])
    spread = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[x.ndim]
    groups, dilations = int(given["groups"]), _ints(given["dilations"])
    found = spread(x, given["weight"], given.get("bias"), strides, 0, 0, groups, dilations)
    custom = given["pad_type"] == "custom" and given.get("pad") is not None
    found = _cropped(found, _ints(given["pad"]) if custom else [0, 0] * len(strides))
    wanted = given.get("output_shape")
    if wanted is not None and list(found.shape) != _ints(wanted):
        raise ExportError("coreml: a transposed kernel of another shape is not known to the check here")
    return found


def _cropped(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Return a tensor without the ends of its last axes: `sides` has how much, before and behind each."""
    first = x.ndim - len(sides) // 2
    for axis in range(first, x.ndim):
        before, behind = sides[2 * (axis - first) : 2 * (axis - first) + 2]
        x = x.narrow(axis, before, x.shape[axis] - before - behind)
    return x


def _pool(given: Given, largest: bool) -> Tensor:
    kernel, strides, x = _ints(given["kernel_sizes"]), _ints(given["strides"]), given["x"]
    pads = _paddings(given, kernel, strides)
    if given.get("ceil_mode") is not None and bool(given["ceil_mode"]):
        raise ExportError("coreml: poolings that round sizes up are not known to the check on this system")
    if largest:
        return F.max_pool2d(F.pad(x, pads, value=-torch.inf), kernel, strides)
    mean = F.avg_pool2d(F.pad(x, pads), kernel, strides)
    if bool(given["exclude_padding_from_average"]):
        mean = mean / F.avg_pool2d(F.pad(torch.ones_like(x), pads), kernel, strides)
    return mean


def _matmul(given: Given) -> Tensor:
    x, y = given["x"], given["y"]
    x = x.mT if bool(given["transpose_x"]) else x
    return x @ (y.mT if bool(given["transpose_y"]) else y)


def _reshape(given: Given) -> Tensor:
    x = given["x"]
    return x.reshape(
        [x.shape[axis] if size == 0 else size for axis, size in enumerate(_ints(given["shape"]))]
    )


def _expand(given: Given) -> Tensor:
    x, axes = given["x"], _ints(given["axes"])
    count = x.ndim + len(axes)
    for axis in sorted(axis % count for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(given: Given) -> Tensor:
    x, axes = given["x"], given.get("axes")
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


def _split(given: Given) -> tuple[Tensor, ...]:
    x, axis, sizes = given["x"], int(given["axis"]), given.get("split_sizes")
    if sizes is None:
        return tuple(x.chunk(int(given["num_splits"]), axis))
    return x.split(_ints(sizes), axis)


def _slice_by_index(given: Given) -> Tensor:
    x = given["x"]

    def each(name: str, default: int) -> list[int]:
        return [default] * x.ndim if given.get(name) is None else _ints(given[name])

    begins, ends, steps = _ints(given["begin"]), _ints(given["end"]), each("stride", 1)
    masks = zip(each("begin_mask", 0), each("end_mask", 0), each("squeeze_mask", 0), strict=True)
    dropped = []
    for axis, (no_begin, no_end, squeezed) in enumerate(masks):
        size, begin, end = x.shape[axis], begins[axis], ends[axis]
        if squeezed:
            chosen = [begin % size]
            dropped.append(axis)
        else:
            chosen = [*range(size)][slice(None if no_begin else begin, None if no_end else end, steps[axis])]
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.long))
    return x.squeeze(tuple(dropped)) if dropped else x


def _slice_by_size(given: Given) -> Tensor:
    x = given["x"]
    for axis, (begin, size) in enumerate(zip(_ints(given["begin"]), _ints(given["size"]), strict=True)):
        x = x.narrow(axis, begin, x.shape[axis] - begin if size == -1 else size)
    return x


def _pad(given: Given) -> Tensor:
    x, sides = given["x"], _ints(given["pad"])
    pairs = [(sides[at], sides[at + 1]) for at in range(0, len(sides), 2)]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if given["mode"] == "constant":
        return F.pad(x, [*chain.from_iterable(reversed(pairs))], value=float(given["constant_val"]))
    mode = {"reflect": "reflect", "replicate": "edge"}[given["mode"]]
    return torch.from_numpy(np.pad(x.numpy(), pairs, mode))  # type: ignore[call-overload]


_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "int32": torch.int32, "bool": torch.bool}


def _one_hot(given: Given) -> Tensor:
    found = F.one_hot(given["indices"].long(), int(given["one_hot_vector_size"]))
    found = torch.where(found.bool(), given["on_value"], given["off_value"])
    return found.movedim(-1, int(given["axis"]))


def _gather(given: Given) -> Tensor:
    x, indices, axis = given["x"], given["indices"].long(), int(given["axis"]) % given["x"].ndim
    found = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return found.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _scatter(given: Given) -> Tensor:
    data, axis, indices = given["data"], int(given["axis"]), given["indices"].long()
    if given["mode"] == "update":
        return data.scatter(axis, indices, given["updates"])
    how = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[given["mode"]]
    return data.scatter_reduce(axis, indices, given["updates"], how)


def _topk(given: Given) -> tuple[Tensor, Tensor]:
    values, indices = given["x"].topk(int(given["k"]), int(given["axis"]), not bool(given["ascending"]))
    return values, indices.int()


def _batch_norm(given: Given) -> Tensor:
    x, mean, variance, gamma, beta = map(given.get, ("x", "mean", "variance", "gamma", "beta"))
    epsilon = float(given["epsilon"])
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)  # type: ignore[arg-type]


def _concat(given: Given) -> Tensor:
    values, axis = given["values"], int(given["axis"])
    if not bool(given["interleave"]):
        return torch.cat(values, axis)
    axis %= values[0].ndim  # of equal sizes: the first of each, then the second
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def _layer_norm(given: Given) -> Tensor:
    x, axes = given["x"], _ints(given["axes"])
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    normed = (x - mean) / (variance + float(given["epsilon"])).sqrt()
    for name, apply in (("gamma", torch.mul), ("beta", torch.add)):
        normed = normed if given.get(name) is None else apply(normed, given[name])
    return normed


def _gelu(given: Given) -> Tensor:
    if given["mode"] == "SIGMOID_APPROXIMATION":
        return given["x"] * torch.sigmoid(1.702 * given["x"])
    return F.gelu(given["x"], approximate="none" if given["mode"] == "EXACT" else "tanh")


def _upsample(given: Given, mode: str) -> Tensor:
    factors = (float(given["scale_factor_height"]), float(given["scale_factor_width"]))
    corners = {"align_corners": bool(given["align_corners"])} if mode == "bilinear" else {}
    return F.interpolate(given["x"], scale_factor=factors, mode=mode, **corners)


def _resize(given: Given) -> Tensor:
    size, mode = [int(given[f"target_size_{axis}"]) for axis in ("height", "width")], given["sampling_mode"]
    if mode not in ("UNALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        raise ExportError(f"coreml: the check on this system does not know the sampling mode {mode}")
    return F.interpolate(given["x"], size, mode="bilinear", align_corners=mode == "STRICT_ALIGN_CORNERS")


_UNARY: Mapping[str, Callable[..., Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus,
    "softsign": F.softsign, "silu": F.silu, "exp": torch.exp, "sqrt": torch.sqrt, "abs": torch.abs,
    "sign": torch.sign, "floor": torch.floor, "ceil": torch.ceil, "round": torch.round, "erf": torch.erf,
    "square": torch.square, "sin": torch.sin, "cos": torch.cos, "logical_not": torch.logical_not,
    "identity": torch.clone,
}  # fmt: skip

_BINARY: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.true_divide, "pow": torch.pow,
    "maximum": torch.maximum, "minimum": torch.minimum, "greater": torch.gt, "greater_equal": torch.ge,
    "less": torch.lt, "less_equal": torch.le, "equal": torch.eq, "not_equal": torch.ne,
    "logical_and": torch.logical_and, "logical_or": torch.logical_or, "floor_div": torch.floor_divide,
    "mod": torch.remainder,
}  # fmt: skip

_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "reduce_mean": torch.mean, "reduce_sum": torch.sum, "reduce_max": torch.amax, "reduce_min": torch.amin,
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_l2_norm": lambda x, axes, kept: torch.linalg.vector_norm(x, 2, axes, kept),
    "reduce_sum_square": lambda x, axes, kept: x.square().sum(axes, kept),
}  # fmt: skip

OPERATIONS: Mapping[str, Operation] = {
    **{name: _one("x", operation) for name, operation in _UNARY.items()},
    **{name: _two(operation) for name, operation in _BINARY.items()},
    **{name: _reduce(operation) for name, operation in _REDUCTIONS.items()},
    "reduce_argmax": _arg(torch.argmax),
    "reduce_argmin": _arg(torch.argmin),
    "inverse": lambda given: 1 / (given["x"] + given["epsilon"]),
    "log": lambda given: torch.log(given["x"] + given["epsilon"]),
    "rsqrt": lambda given: torch.rsqrt(given["x"] + given["epsilon"]),
    "clip": lambda given: given["x"].clamp(given["alpha"], given["beta"]),
    "leaky_relu": lambda given: F.leaky_relu(given["x"], float(given["alpha"])),
    "thresholded_relu": lambda given: torch.where(given["x"] >= given["alpha"], given["x"], 0.0),
    "elu": lambda given: F.elu(given["x"], float(given["alpha"])),
    "prelu": lambda given: F.prelu(given["x"], given["alpha"]),
    "sigmoid_hard": lambda given: (given["alpha"] * given["x"] + given["beta"]).clamp(0, 1),
    "gelu": _gelu,
    "softmax": lambda given: given["x"].softmax(int(given["axis"])),
    "select": lambda given: torch.where(given["cond"], given["a"], given["b"]),
    "linear": lambda given: F.linear(given["x"], given["weight"], given.get("bias")),
    "matmul": _matmul,
    "einsum": lambda given: torch.einsum(given["equation"], *given["values"]),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "crop": lambda given: _cropped(given["x"], [*_ints(given["crop_height"]), *_ints(given["crop_width"])]),
    "instance_norm": lambda given: F.instance_norm(
        given["x"], weight=given.get("gamma"), bias=given.get("beta"), eps=float(given["epsilon"])
    ),
    "max_pool": lambda given: _pool(given, largest=True),
    "avg_pool": lambda given: _pool(given, largest=False),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "reshape": _reshape,
    "transpose": lambda given: given["x"].permute(_ints(given["perm"])),
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": lambda given: torch.stack(given["values"], int(given["axis"])),
    "split": _split,
    "tile": lambda given: given["x"].tile(_ints(given["reps"])),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "pad": _pad,
    "cast": lambda given: given["x"].to(_TYPES[given["dtype"]]),
    "fill": lambda given: torch.full(
        _ints(given["shape"]), given["value"].item(), dtype=given["value"].dtype
    ),
    "fill_like": lambda given: given["value"].expand(given["ref_tensor"].shape),
    "one_hot": _one_hot,
    "gather": _gather,
    "gather_along_axis": lambda given: given["x"].gather(int(given["axis"]), given["indices"].long()),
    "scatter_along_axis": _scatter,
    "topk": _topk,
    "cumsum": lambda given: given["x"].cumsum(int(given["axis"])),
    "upsample_bilinear": lambda given: _upsample(given, "bilinear"),
    "upsample_nearest_neighbor": lambda given: _upsample(given, "nearest"),
    "resize_bilinear": _resize,
}
"""The known operations of the language, by their names there."""
