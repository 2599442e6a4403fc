"""The contract of a kernel op: a bank of kernels, and a router that says how an image mixes them.

A kernel op is one file in `kernels/` with one class, which is one convolution of a block:

- its facts: the `knobs` that space files may choose, what it `requires` and `provides`, its `capacity` and
  `paper` (`dynnas.nn.facts`);
- `__init__(shape, ...)` makes the bank; its other arguments are the knobs, with the same defaults;
- `forward(x, route)` convolves; the inherited one mixes the bank with `route` as coefficients, in the way
  that the call's `ConvMode` says (`dynnas.nn.context`);
- `router(in_channels, convs, ...)` makes what the convolutions of one block share, with the same knobs: a
  module that looks at the block's input and returns the `route` of each convolution. Ops whose convolutions
  each look at their own input leave it out, and hold a router themselves;
- `part` convolves some of the channels for some of the others, where a gate wants no more. The inherited one
  does all of it and takes what is asked for, which is right for any op; a bank uses `mixed_part`;
- an op whose kernel comes from something else has no weight (`new_weight`), and generates it once and for all
  in `settle`, if it does not depend on the image.

A single kernel that is used in another way than by convolving (`deformable`, `pac`) is a `weight` as well.

Names decide what the supernet shares. `weight` is the bank in every op, so that a static kernel is the mean
of the bank; any other parameter of a convolution has the op's name in its own (`dyconv_router`), and those of
`router` get it from `block_router`. The supernet slices by shape, so keep apart the axes that vary apart: a
parameter over experts and channels is (Co, M, ...), never (Co * M, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynnas.nn.context import Context, Contextual
from dynnas.nn.dynamic_conv.mixing import mixed_conv
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.facts import KERNEL_OPS, Operator, Requirement
from dynnas.nn.layers.channel_selection import Channels, pick, spread
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import initialise_kernels
from dynnas.nn.slicing import Rule, centre, mean
from dynnas.registry import Registry


class NoRouter(nn.Module):
    """The router of ops that have none: every convolution gets None."""

    def __init__(self, convs: Iterable[str]) -> None:
        """`convs` are the names of the block's convolutions."""
        super().__init__()
        self.convs = tuple(convs)

    def forward(self, x: Tensor) -> dict[str, None]:
        """Return None for each convolution, for any `x` (B, C, H, W)."""
        return dict.fromkeys(self.convs)


class Kernel(Operator, Contextual):
    """One convolution of a block, with a single kernel or a bank of them."""

    requires: ClassVar[tuple[Requirement, ...]] = (
        Requirement(("block",), KERNEL_OPS, "its kernels are static"),
    )

    input_dependent: ClassVar[bool] = True
    """True if images differ in what the convolution does."""

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": mean() & centre(-2, -1)}
    """Slicing rules of its tensors in a supernet: a single kernel is the mean of a bank."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, shape: ConvShape, bank: int | None = None) -> None:
        """Make a bank (M, Co, Ci / groups, k, k) of `bank` kernels, or a single kernel without the M axis.

        There is no bias until `absorb` brings one, as in networks a batch norm follows every convolution.
        """
        super().__init__()
        self.shape = shape
        self.register_parameter("weight", self.new_weight(bank))
        self.register_parameter("bias", None)

    def new_weight(self, bank: int | None) -> nn.Parameter | None:
        """Return the bank or kernel, as initialised.

        It is None where an op makes its kernel from something else.
        """
        weight = nn.Parameter(torch.empty(*(() if bank is None else (bank,)), *self.shape.weight))
        initialise_kernels(weight)
        return weight

    def add_bias(self) -> None:
        """Give the convolution a bias (Co,) of its own, which starts at 0."""
        self.bias = nn.Parameter(torch.zeros(self.shape.out_channels))

    def mixed(self, x: Tensor, route: Tensor | None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W) with the bank mixed by `route`, (B, M) or (B, Co, M)."""
        context = context or self.context
        if route is None:
            raise TypeError(f"{type(self).__name__} mixes its bank by a route, and its router gave none")
        strategy = context[ConvMode].strategy
        return mixed_conv(x, self.weight, route, self.bias, self.shape, strategy, context.trace)

    forward: Callable[..., Tensor] = mixed
    """Convolves (x, route), and takes `context` if the op reads it."""

    def part(self, x: Tensor, route: Any, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute some output channels of `forward` on `x`, with zeros for the channels that it lacks.

        Args:
            x: (B, those of `inputs`, H, W).
            route: as in `forward`.
            inputs, outputs: channels; None for all. Those of a depthwise convolution are the same.

        Returns:
            (B, those of `outputs`, H', W').
        """
        # Right for any op; those that can leave out the arithmetic do so.
        return pick(self(spread(x, inputs, self.shape.in_channels), route), outputs)

    def narrowed(
        self, weight: Tensor, inputs: Channels | None, outputs: Channels | None
    ) -> tuple[Tensor, ConvShape]:
        """Return the part of a kernel (Co, Ci / groups, k, k) or bank between channels, and its geometry."""
        weight = pick(weight, outputs, -4)
        own, groups = self.shape, 1
        if own.groups == 1:
            weight = pick(weight, inputs, -3)
        else:
            groups = weight.shape[-4]
        before = weight.shape[-3] * groups
        return weight, replace(own, in_channels=before, out_channels=weight.shape[-4], groups=groups)

    def mixed_part(
        self, x: Tensor, route: Tensor, inputs: Channels | None, outputs: Channels | None, bias: Tensor | None
    ) -> Tensor:
        """Compute a `part` of a bank that is mixed by `route`, (B, M) or (B, Co, M).

        `bias` is that of the output channels.
        """
        weight, shape = self.narrowed(self.weight, inputs, outputs)
        mixture = pick(route, outputs) if route.dim() == 3 else route
        return mixed_conv(x, weight, mixture, bias, shape, self.context[ConvMode].strategy)

    @classmethod
    def router(cls, in_channels: int, convs: Mapping[str, ConvShape], **knobs: Any) -> nn.Module:
        """Return the router that a block's convolutions share: from its input to a route for each name.

        Args:
            in_channels: of the block's input. convs: the block's convolutions by their names.
            knobs: those of the op.
        """
        return NoRouter(convs)

    def settle(self) -> None:
        """Precompute everything that does not depend on the input, so that it costs nothing from then on."""

    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,): this is how a batch norm is folded away."""
        self.settle()
        bias = shift if self.bias is None else self.bias * scale + shift
        self.weight = nn.Parameter((self.weight * scale[:, None, None, None]).detach())
        self.bias = nn.Parameter(bias.detach())

    def extra_repr(self) -> str:
        """Return the bank's shape and the geometry."""
        return f"{tuple(self.weight.shape)}, stride={self.shape.stride}, groups={self.shape.groups}"


KERNELS: Registry[type[Kernel]] = Registry(
    "kernel op",
    group="dynnas.kernels",
    package="dynnas.nn.kernels",
    order=attrgetter("capacity"),
    base=Kernel,
)

register_kernel = KERNELS.register
