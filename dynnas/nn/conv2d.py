"""A convolution with ordinary arguments whose kernel may depend on the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dynnas.errors import SpaceError, nearest
from dynnas.nn.facts import DEPTHWISE, KERNEL_OPS
from dynnas.nn.kernels.kernel import KERNELS, Kernel
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.naming import named

_NAME = "conv"


class Conv2d(nn.Module):
    """`torch.nn.Conv2d` with a choice of kernels: static, mixed for each image, deformable, generated.

    With `op="static"` it computes what `torch.nn.Conv2d` does, and loads its weights. Weights and biases
    start as those of `torch.nn.Conv2d`, each kernel of a bank by itself.

    Args:
        in_channels: Ci. out_channels: Co. kernel_size: pixels along each side.
        stride, dilation, groups: as in `torch.nn.Conv2d`, one number for both axes.
        padding: pixels of zeros on each side, or "same" to keep the size of the image.
        bias: whether to add one; `dyconv` has one in each of its kernels in any case.
        op: how the kernel depends on the image; `dynnas.nn.KERNELS` lists the names.
        knobs: those of the op, such as `experts=4`. Those of other ops are ignored, so that a network can be
            built with one set of arguments for any op.

    Raises:
        SpaceError: there is no such op, the op makes no sense in such a convolution, or a knob's value is not
            allowed.
        TypeError: no op has such a knob.
        ValueError: the geometry is not that of a square convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        op: str = "static",
        **knobs: Any,
    ) -> None:
        super().__init__()
        self.op = op
        kernel, gap, step = (
            _side("kernel_size", kernel_size),
            _side("dilation", dilation),
            _side("stride", stride),
        )
        shape = ConvShape(
            in_channels, out_channels, kernel, step, groups, gap, _padding(padding, kernel, gap, step)
        )
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1 or channels % groups:
                raise ValueError(f"{name} is {channels}; allowed: multiples of groups, which is {groups}")
        family = KERNELS[op]
        own = op_knobs(op, knobs)
        _check_requirements(op, family, shape)
        self.conv = family(shape, **own)
        if bias:
            self.conv.add_bias()
        self.router = named(op, family.router(in_channels, {_NAME: shape}, **own))
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H', W'), of the same size as with `torch.nn.Conv2d`."""
        return self.conv(x, self.router(x)[_NAME])

    @property
    def weight(self) -> Tensor:
        """The kernel (Co, Ci / groups, k, k), or the bank (M, Co, Ci / groups, k, k)."""
        return self.conv.weight

    @property
    def bias(self) -> Tensor | None:
        """Return the bias (Co,), or None."""
        return self.conv.bias

    def extra_repr(self) -> str:
        """Return how the kernel depends on the image."""
        return f"op={self.op!r}"

    def _initialise(self) -> None:
        """Draw weights and bias as `torch.nn.Conv2d` does."""
        weight, bias = self.conv.weight, self.conv.bias
        if weight is not None:
            for kernel in weight if weight.dim() == 5 else [weight]:
                nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))
        if bias is not None:
            limit = math.prod(self.conv.shape.weight[1:]) ** -0.5
            nn.init.uniform_(bias, -limit, limit)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Take the tensors of a `torch.nn.Conv2d` as well."""
        if self.op == "static":
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in state_dict:
                    state_dict[f"{prefix}{_NAME}.{name}"] = state_dict.pop(f"{prefix}{name}")
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def op_knobs(op: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked knobs of an op, with its defaults; `given` may have those of other ops.

    Raises:
        SpaceError: there is no such op, or a value is not allowed.
        TypeError: no op has such a knob.
    """
    known = {knob.name for kernel in KERNELS.values() for knob in kernel.knobs}
    for name in given:
        if name not in known:
            raise TypeError(
                f"Conv2d: unknown knob {name!r}{nearest(name, known)}; known: {', '.join(sorted(known))}"
            )
    found = {}
    for knob in KERNELS[op].knobs:
        value = given.get(knob.name, knob.default)
        try:
            found[knob.name] = knob.rule.accept(value)
        except ValueError:
            raise SpaceError(f"op {op!r}: {knob.name} is {value!r}; allowed: {knob.rule}") from None
    return found


def _check_requirements(op: str, family: type[Kernel], shape: ConvShape) -> None:
    provided = {KERNEL_OPS} | ({DEPTHWISE} if shape.depthwise else set())
    for requirement in family.requires:
        if requirement.fact not in provided:
            raise SpaceError(
                f"op {op!r} makes no sense in a convolution from {shape.in_channels} to {shape.out_channels} "
                f"channels in {shape.groups} groups: it needs {requirement.fact}"
            )


def _side(name: str, value: int | tuple[int, int]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1 or min(sides) < 1:
        raise ValueError(f"{name} is {value}; allowed: a positive number, the same for both axes")
    return sides.pop()


def _padding(value: int | tuple[int, int] | str, kernel: int, dilation: int, stride: int) -> int:
    whole = dilation * (kernel - 1)
    if value == "valid":
        return 0
    if value == "same" and stride == 1 and whole % 2 == 0:
        return whole // 2
    sides = {value} if isinstance(value, int | str) else set(value)
    side = sides.pop()
    if sides or isinstance(side, str) or side < 0:
        raise ValueError(
            f"padding is {value!r}; allowed: a number of pixels, the same for both axes, 'valid', or 'same' "
            "for an odd kernel of stride 1"
        )
    return side
