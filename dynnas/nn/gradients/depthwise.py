"""Gradients of depthwise convolutions on a processor, where oneDNN has no fast kernel for them.

Of depthwise convolutions oneDNN computes all forward passes fast, and of gradients those of 3 x 3 kernels of
stride 1 without dilation. Others fall back to plain loops: in bfloat16 the input's gradient at stride 2 takes
20 to 80 times its time in float32, and the weight's gradient of 5 x 5 pixels 30 to 75 times that of 3 x 3.
The same numbers come of what it does compute fast:

- the input's gradient is a convolution of the output's, with zeros between its pixels where there is a
  stride, with the kernel turned round;
- the weight's gradient is put together of those of 3 x 3 kernels, each on a shifted input.

`tests/bench/step.py` times both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 3
"""Side of the kernels whose weight gradients oneDNN computes fast."""
FEW = 32_768
"""Numbers in an input below which tiles take longer: each has a call of its own."""
NARROW = 2
"""Channels of a group up to which oneDNN is faster in float32 than in bfloat16."""

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """The way a kernel moves over an image, by rows and by columns."""

    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def strided(self) -> bool:
        """Return whether it leaves out pixels."""
        return self.stride != (1, 1)

    @property
    def dilated(self) -> bool:
        """Return whether its taps lie apart."""
        return self.dilation != (1, 1)


def is_slow(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Return whether torch computes a gradient of a depthwise convolution slowly.

    Args:
        x: (B, C, H, W). weight: (C, 1, h, w).
    """
    if x.dtype == torch.bfloat16:
        return geometry.strided or geometry.dilated or max(weight.shape[2:]) > TILE
    return x.dtype == torch.float32 and geometry.dilated and not geometry.strided


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve each channel by itself, with fast gradients.

    Args:
        x: (B, C, H, W). weight: (C, 1, h, w), of the type of `x`. bias: (C,).

    Returns:
        (B, C, H', W').
    """
    found: Tensor = _Depthwise.apply(x, weight, bias, geometry)
    return found


class _Depthwise(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        return F.conv2d(x, weight, bias, *geometry, x.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            input_gradient(gradient, x, weight, ctx.geometry) if to_x else None,
            weight_gradient(gradient, x, weight, ctx.geometry) if to_weight else None,
            gradient.sum((0, 2, 3)) if to_bias else None,
            None,
        )


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient (B, C, H, W) of the input of a depthwise convolution.

    Args:
        gradient: (B, C, H', W') of its output. x: (B, C, H, W). weight: (C, 1, h, w).
    """
    reach = [
        dilation * (side - 1) for dilation, side in zip(geometry.dilation, weight.shape[2:], strict=True)
    ]
    around = [each - padding for each, padding in zip(reach, geometry.padding, strict=True)]
    if min(around) < 0:
        return _by_torch(gradient, x, weight, geometry, (True, False))[0]
    if geometry.strided:
        height, width = (
            length + 2 * padding - each
            for length, padding, each in zip(x.shape[2:], geometry.padding, reach, strict=True)
        )
        gradient = _spread(gradient, height, width, geometry.stride)
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, around, geometry.dilation, x.shape[1])


def _spread(gradient: Tensor, height: int, width: int, stride: Pair) -> Tensor:
    """Return (B, C, height, width): the gradient, with zeros where a stride passes by."""
    batch, channels = gradient.shape[:2]
    if _layout(gradient) == torch.channels_last:
        found = gradient.new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)
    else:
        found = gradient.new_zeros(batch, channels, height, width)
    rows, columns = (
        slice(0, (length - 1) * step + 1, step)
        for length, step in zip(gradient.shape[2:], stride, strict=True)
    )
    found[:, :, rows, columns] = gradient
    return found


def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient (C, 1, h, w) of the weight of a depthwise convolution.

    Args:
        gradient: (B, C, H', W') of its output. x: (B, C, H, W). weight: (C, 1, h, w).
    """
    small = max(weight.shape[2:]) <= TILE and not geometry.dilated
    if small or x.numel() < FEW or x.dtype != torch.bfloat16:
        return _by_torch(gradient, x, weight, geometry, (False, True))[1]
    taps = [
        [dilation * at for at in range(side)]
        for dilation, side in zip(geometry.dilation, weight.shape[2:], strict=True)
    ]
    rows, columns = (_tiles(each) for each in taps)
    # Tiles see each output's pixels, and the last ones may reach beyond those of the kernel.
    height, width = (
        (length - 1) * stride + TILE
        for length, stride in zip(gradient.shape[2:], geometry.stride, strict=True)
    )
    above, before = geometry.padding
    below = rows[-1][0] + height - x.shape[2] - above
    after = columns[-1][0] + width - x.shape[3] - before
    layout = _layout(x)
    x = F.pad(x, (before, after, above, below))
    tile, plain = weight.new_empty(len(weight), 1, TILE, TILE), Geometry(geometry.stride, (0, 0), (1, 1))
    found = []
    for top, row_taps in rows:
        line = []
        for left, column_taps in columns:
            part = x[:, :, top : top + height, left : left + width].contiguous(memory_format=layout)
            own = _by_torch(gradient, part, tile, plain, (False, True))[1]
            line.append(own[:, :, [tap - top for tap in row_taps]][..., [tap - left for tap in column_taps]])
        found.append(torch.cat(line, 3))
    return torch.cat(found, 2)


def _tiles(taps: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return where tiles begin, and which taps of a kernel each holds."""
    found: list[tuple[int, list[int]]] = []
    for tap in taps:
        if found and tap < found[-1][0] + TILE:
            found[-1][1].append(tap)
        else:
            found.append((tap, [tap]))
    return found


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _by_torch(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, mask: tuple[bool, bool]
) -> tuple[Any, ...]:
    found: tuple[Any, ...] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, *geometry, False, (0, 0), x.shape[1], (*mask, False)
    )
    return found


def convolved(
    func: Callable[..., Any],
    kind: torch.dtype,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return what a convolution of torch gives, or None if torch does as well by itself.

    In bfloat16, grouped convolutions of one or two channels a group that are not depthwise in two dimensions
    are computed in float32: oneDNN takes up to four times as long in bfloat16.

    Args:
        func: torch's function, whose arguments follow; `input` is (B, C, ...) or (C, ...).
        kind: the type of the result.
    """
    if groups == 1 or not torch.backends.mkldnn.enabled:
        return None
    per_group = min(weight.shape[0], input.shape[1]) // groups if input.dim() == weight.dim() else math.inf
    if func is torch.conv2d and per_group == 1 and groups == weight.shape[0] == input.shape[1]:
        geometry = _geometry(weight, stride, padding, dilation)
        if geometry is None:
            return None
        x, own = input.to(kind), weight.to(kind)
        if not is_slow(x, own, geometry):
            return None
        return depthwise_conv(x, own, None if bias is None else bias.to(kind), geometry)
    if kind != torch.bfloat16 or per_group > NARROW:
        return None
    wide = None if bias is None else bias.float()
    found: Tensor = func(input.float(), weight.float(), wide, stride, padding, dilation, groups)
    return found.to(kind)


def _geometry(weight: Tensor, stride: Any, padding: Any, dilation: Any) -> Geometry | None:
    """Return the geometry, or None if more is added at one side than at the other."""
    steps, apart = _pair(stride), _pair(dilation)
    if padding == "valid":
        return Geometry(steps, (0, 0), apart)
    if padding == "same":
        total = [each * (side - 1) for each, side in zip(apart, weight.shape[2:], strict=True)]
        if any(each % 2 for each in total):
            return None
        return Geometry(steps, (total[0] // 2, total[1] // 2), apart)
    return Geometry(steps, _pair(padding), apart)


def _pair(value: Any) -> Pair:
    """Return a number for rows and one for columns, of one number, one in a sequence, or two."""
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])
