"""Convolutions whose kernel may depend on the image, begun so that they compute what was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dynnas.errors import SpaceError
from dynnas.nn.conv2d import Conv2d
from dynnas.nn.slices import slice_of
from dynnas.nn.slicing import Rule, centre, indices, layouts
from dynnas.supernet.blank import fill

STATIC = "static"
OPS = ("condconv", "dyconv")
"""Ops that can begin as a trained kernel: their kernel is a mixture of a bank."""

SPREAD = 0.1
"""Standard deviation of what tells the experts of a bank apart, as a share of the kernel's own."""

# For each tensor: the axes of output and of input channels, and whether it has the axes of the kernel.
_AXES: Mapping[str, tuple[int | None, int | None, bool]] = {
    "conv.weight": (1, 2, True),
    "conv.bias": (0, None, False),
    "conv.dyconv_bias": (1, None, False),
    "conv.dyconv_router.reduce.weight": (None, 1, False),
    "router.condconv.fc.weight": (None, 1, False),
}


@dataclass(frozen=True)
class Op:
    """A choice of how the kernel of a convolution depends on the image.

    Attributes:
        conv: name of the convolution.
    """

    conv: str


def replaceable(conv: nn.Module) -> bool:
    """Tell whether a dynamic convolution can replace a layer: an ordinary square one, dense or depthwise."""
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    square = all(len(set(each)) == 1 for each in (conv.kernel_size, conv.stride, conv.padding, conv.dilation))
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    return square and (conv.groups == 1 or depthwise)


@torch.no_grad()
def begun(conv: nn.Conv2d, op: str, experts: int, seed: int) -> Conv2d:
    """Return the dynamic convolution that computes what `conv` does, up to rounding.

    The mean of the bank is the trained kernel. Its kernels differ a little, so that they can learn to differ;
    CondConv's coefficients begin as 1 / experts for any image, and so do those of DY-CNN.

    Raises:
        SpaceError: the op cannot begin so.
    """
    if op not in OPS:
        raise SpaceError(f"elastic: op {op!r}; allowed are {', '.join(OPS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = shaped(conv, op, experts)
        kernel = conv.weight
        noise = torch.randn(experts, *kernel.shape) * float(kernel.std()) * SPREAD
    noise -= noise.mean(0)
    made.conv.weight.copy_(kernel + noise.to(kernel))
    if op == "condconv":
        router = made.router.condconv.fc
        router.weight.zero_()
        router.bias.fill_(-math.log(experts - 1) if experts > 1 else 20.0)
        if conv.bias is not None:
            made.conv.bias.copy_(conv.bias)
    else:
        made.conv.dyconv_router.expand.weight.zero_()
        made.conv.dyconv_router.expand.bias.zero_()
        if conv.bias is not None:
            made.conv.dyconv_bias.copy_(conv.bias.expand_as(made.conv.dyconv_bias))
    begun_layer: Conv2d = made.eval()
    return begun_layer


def shaped(conv: nn.Conv2d, op: str, experts: int) -> Conv2d:
    """Return a fresh dynamic convolution of the geometry of `conv`."""
    assert not isinstance(conv.padding, str)
    return Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        conv.stride[0],
        conv.padding[0],
        conv.dilation[0],
        conv.groups,
        conv.bias is not None,
        op=op,
        experts=experts,
    )


def sliced(conv: nn.Conv2d, whole: Conv2d, rules: Mapping[str, Rule]) -> Conv2d:
    """Return a dynamic convolution of the geometry of `conv`; its tensors are slices of those of `whole`."""
    made = shaped(conv, whole.op, whole.conv.weight.shape[0])
    if torch.empty(0).is_meta:
        return made
    take_slices(made, whole, rules)
    return made.eval()


def take_slices(made: nn.Module, whole: nn.Module, rules: Mapping[str, Rule]) -> None:
    """Give a module its part of the tensors of `whole`, by rules for its tensors; others lead."""
    made.elastic = dict(rules)  # type: ignore[assignment]
    room = {name: layout.axes for name, layout in layouts(whole).items()}
    held = dict(whole.named_parameters())
    parts = {name: slice_of(room[name], layout).of(held[name]) for name, layout in layouts(made).items()}
    fill(made, parts)
    del made.elastic


def rules_of(whole: Conv2d, outputs: np.ndarray | None, inputs: np.ndarray | None) -> dict[str, Rule]:
    """Return how tensors of a dynamic convolution are sliced, by their names in it.

    Args:
        whole: with all channels.
        outputs, inputs: indices of the channels that stay; None for all. A depthwise one needs `outputs`.
    """
    found: dict[str, Rule] = {}
    depthwise = bool(whole.conv.shape.depthwise)
    inputs = outputs if depthwise else inputs
    for name, _ in whole.named_parameters():
        out, incoming, kernel = _AXES.get(name, (None, None, False))
        if depthwise and kernel:  # its kernels read one channel each
            incoming = None
        rule = centre(-2, -1) if kernel else None
        for axis, kept in ((out, outputs), (incoming, inputs)):
            if axis is not None and kept is not None:
                one = indices(tuple(kept.tolist()), axis)
                rule = one if rule is None else rule & one
        if rule is not None:
            found[name] = rule
    return found
