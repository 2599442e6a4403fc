"""The parts that blocks and networks are composed of: activations, convolution units, stem and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.by_name import activation, attention
from dynnas.nn.config.network import BlockConfig, ExitConfig, HeadConfig, StemConfig
from dynnas.nn.exits.exits import JUDGED
from dynnas.nn.kernels.kernel import KERNELS, Kernel
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.channel_selection import Channels, pick, spread
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.dropout import Dropout
from dynnas.nn.layers.initial import linear
from dynnas.nn.layers.naming import named


class ConvUnit(nn.Module):
    """A convolution, its batch norm and its activation: what all networks here are made of."""

    def __init__(self, conv: Kernel, act: nn.Module) -> None:
        """`act` follows the batch norm; `nn.Identity()` for a linear unit."""
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = nn.BatchNorm2d(conv.shape.out_channels)
        self.act = act
        self.by_element = is_elementwise(act)

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H', W').

        `route` is what the block's router says to the convolution.
        """
        return self.act(self.norm(self.conv(x, route)))

    def part(self, x: Tensor, route: Any, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute what `forward` does in eval mode for some channels.

        Shapes are those of `Kernel.part`; other channels are 0 to the activation.
        """
        y = self.conv.part(x, route, inputs, outputs)
        norm = self.norm
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, var, weight, bias = (
                pick(tensor, outputs, 0)
                for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            )
            y = F.batch_norm(y, mean, var, weight, bias, training=False, eps=norm.eps)
        if outputs is None or self.by_element:
            return self.act(y)
        return pick(self.act(spread(y, outputs, self.conv.shape.out_channels)), outputs)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the batch norm, with its running statistics, into the convolution; done once, it stays so."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        self.conv.absorb(scale, norm.bias - norm.running_mean * scale)
        self.norm = nn.Identity()


@torch.no_grad()
def of_one_pixel(unit: ConvUnit) -> nn.Module:
    """Return a static 1x1 unit without its norm as a linear layer: of a single pixel (B, C, 1, 1) to (B, Co).

    A convolution takes several times as long. A unit with a norm stays what it is.
    """
    if not isinstance(unit.norm, nn.Identity):
        return unit
    conv = unit.conv
    plain = nn.Linear(conv.shape.in_channels, conv.shape.out_channels, device="meta")
    assert conv.bias is not None
    plain.weight, plain.bias = nn.Parameter(conv.weight.flatten(1)), nn.Parameter(conv.bias.detach())
    return nn.Sequential(nn.Flatten(), plain, unit.act)


def flat(v: Tensor) -> Tensor:
    """Flatten single pixels (B, C, 1, 1) to (B, C); it avoids a redundant Flatten node in exported graphs."""
    return v if v.ndim == 2 else v.flatten(1)


def is_elementwise(module: nn.Module) -> bool:
    """Return whether an activation or attention treats every value by itself, and leaves zeros as they are.

    Those with weights look at the whole image.
    """
    return next(module.parameters(), None) is None


class Stem(ConvUnit):
    """The first convolution of a network: (B, channels, R, R) to (B, Co, R / stride, R / stride)."""

    def __init__(self, config: StemConfig) -> None:
        """Build from its config."""
        shape = ConvShape(config.in_channels, config.out_channels, config.kernel, config.stride)
        super().__init__(Static(shape), activation(config.activation, config.out_channels))


class Head(nn.Module):
    """A classifier, final or at an exit: a 1x1 unit to `width` (0 for none), pooling, dropout, linear."""

    def __init__(self, config: HeadConfig | ExitConfig) -> None:
        """Build from its config."""
        super().__init__()
        self.widen: nn.Module = nn.Identity()
        if config.width:
            conv = Static(pointwise(config.in_channels, config.width))
            self.widen = ConvUnit(conv, activation(config.activation, config.width))
        self.dropout: nn.Module = nn.Identity()
        if isinstance(config, HeadConfig):
            self.dropout = Dropout(config.dropout)
        self.classifier = linear(config.width or config.in_channels, config.classes)
        judge = JUDGED.get(config.criterion) if isinstance(config, ExitConfig) else None
        self.gate: nn.Module | None = None if judge is None else judge(config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes); a gate appends its own, (B, classes + 1)."""
        logits = self.classify(x)
        return logits if self.gate is None else torch.cat([logits, self.gate(logits)], dim=1)

    def classify(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        return self.classifier(self.dropout(self.widen(x).mean((2, 3))))


def block_router(config: BlockConfig, convs: Mapping[str, ConvShape]) -> nn.Module:
    """Build the router of a block with these convolutions: from its input to a route for each name."""
    op = config.op
    return named(op.name, KERNELS[op.name].router(config.in_channels, convs, **op.keywords()))


def block_kernel(config: BlockConfig, shape: ConvShape) -> Kernel:
    """Build a convolution of the block's op, without a batch norm."""
    return KERNELS[config.op.name](shape, **config.op.keywords())


def block_conv(config: BlockConfig, shape: ConvShape, act: nn.Module | None = None) -> ConvUnit:
    """Build a convolution unit of the block's op, with the block's activation unless `act` is given."""
    return ConvUnit(block_kernel(config, shape), act or block_activation(config, shape.out_channels))


def block_attention(config: BlockConfig, channels: int) -> nn.Module:
    """Build the block's attention over feature maps of `channels` channels."""
    return attention(config.attention.name, channels, **config.attention.keywords())


def block_activation(config: BlockConfig, channels: int) -> nn.Module:
    """Build the block's activation of feature maps of `channels` channels."""
    return activation(config.activation.name, channels, **config.activation.keywords())
