"""The contract of a kernel op: a bank of kernels, and a router that says how an image mixes them.

A kernel op is one file in `kernels/` with one class, which is one convolution of a block:

- `bank_field` names the config's field with the number of kernels; `__init__(shape, config)` makes the bank;
- `forward(x, route)` convolves; the inherited one mixes the bank with `route` as coefficients;
- `router(config, convs)` makes what the convolutions of one block share: a module that looks at the block's
  input and returns the `route` of each convolution. Ops whose convolutions each look at their own input leave
  it out, and hold a router themselves;
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

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.dynamic_conv.mixing import Strategy, mixed_conv
from dynnas.nn.layers.channel_selection import Channels, pick, spread
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import initialise_kernels
from dynnas.registry import Registry
from dynnas.space.config.network import BlockConfig


class NoRouter(nn.Module):
    """The router of ops that have none: every convolution is given None."""

    def __init__(self, convs: Iterable[str]) -> None:
        """`convs` are the names of the block's convolutions."""
        super().__init__()
        self.convs = tuple(convs)

    def forward(self, x: Tensor) -> dict[str, None]:
        """None for each convolution."""
        return dict.fromkeys(self.convs)


class Kernel(nn.Module):
    """One convolution of a block, with a single kernel or a bank of them."""

    bank_field: ClassVar[str | None] = None
    """The field of `BlockConfig` that says how many kernels the bank holds; None for a single kernel."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, shape: ConvShape, config: BlockConfig | None = None) -> None:
        """A bank (M, Co, Ci / groups, k, k), or a single kernel without the M axis.

        Static convolutions outside of blocks have no config. There is no bias until `absorb` brings one, as a
        batch norm follows every convolution.
        """
        super().__init__()
        self.shape = shape
        self.strategy: Strategy = "auto"
        self.register_parameter("weight", self.new_weight(config))
        self.register_parameter("bias", None)

    def new_weight(self, config: BlockConfig | None) -> nn.Parameter | None:
        """The bank or kernel, as initialised; None where an op makes its kernel from something else."""
        leading = () if config is None or self.bank_field is None else (self.bank_size(config),)
        weight = nn.Parameter(torch.empty(*leading, *self.shape.weight))
        initialise_kernels(weight)
        return weight

    def forward(self, x: Tensor, route: Tensor | None) -> Tensor:
        """Convolve `x` (B, Ci, H, W) with the bank mixed by `route`, (B, M) or (B, Co, M)."""
        if route is None:
            raise TypeError(f"{type(self).__name__} mixes its bank by a route, and its router gave none")
        return mixed_conv(x, self.weight, route, self.bias, self.shape, self.strategy)

    def part(self, x: Tensor, route: Any, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """As `forward` on `x` with zeros for the channels that it lacks, but of some output channels only.

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
        """The part of a kernel or bank between some channels, and its geometry."""
        weight = pick(weight, outputs, -4)
        own, groups = self.shape, 1
        if own.groups == 1:
            weight = pick(weight, inputs, -3)
        else:
            groups = weight.shape[-4]
        before = weight.shape[-3] * groups
        return weight, ConvShape(before, weight.shape[-4], own.kernel, own.stride, groups)

    def mixed_part(
        self, x: Tensor, route: Tensor, inputs: Channels | None, outputs: Channels | None, bias: Tensor | None
    ) -> Tensor:
        """`part` of a bank that is mixed by `route`; `bias` is that of the output channels."""
        weight, shape = self.narrowed(self.weight, inputs, outputs)
        mixture = pick(route, outputs) if route.dim() == 3 else route
        return mixed_conv(x, weight, mixture, bias, shape, self.strategy)

    @classmethod
    def bank_size(cls, config: BlockConfig) -> int:
        """How many kernels the bank of each convolution holds.

        Raises:
            SpaceError: the config does not say.
        """
        size = getattr(config, cls.bank_field) if cls.bank_field else None
        if size is None:
            raise SpaceError(
                f"op {config.op!r} mixes a bank of kernels, and its config has no {cls.bank_field!r}"
            )
        return size

    @classmethod
    def router(cls, config: BlockConfig, convs: Mapping[str, ConvShape]) -> nn.Module:
        """What the convolutions of a block share: a module from its input to a route for each name."""
        return NoRouter(convs)

    def settle(self) -> None:
        """Work out for good what no image changes, so that it costs nothing from then on."""

    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,): this is how a batch norm is folded away."""
        self.settle()
        bias = shift if self.bias is None else self.bias * scale + shift
        self.weight = nn.Parameter((self.weight * scale[:, None, None, None]).detach())
        self.bias = nn.Parameter(bias.detach())

    def extra_repr(self) -> str:
        """The bank's shape and the geometry."""
        return f"{tuple(self.weight.shape)}, stride={self.shape.stride}, groups={self.shape.groups}"


KERNELS: Registry[type[Kernel]] = Registry("kernel op", group="dynnas.kernels", package="dynnas.nn.kernels")

register_kernel = KERNELS.register
