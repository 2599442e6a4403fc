"""The multi-scale layer with dense connections (MSDNet, Huang 2018, arXiv:1703.09844; RANet, Yang 2020).

Between such layers a tuple of feature maps is passed on, the finest first; elsewhere (between the parts of a
network that branches at its exits, or where a layer stands alone) they are *packed* into one tensor of the
coarsest resolution: 2x2 pixels of a map become four channels, so that nothing is lost. Classifiers read the
coarsest scale, which lies last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.network import BlockConfig, SlotConfig
from dynnas.nn.config.scales import Scales
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.layers import ConvUnit, block_activation, block_attention
from dynnas.nn.layers.maps import Maps, pack, unpack
from dynnas.nn.networks.dense_kernel import DenseKernel


class Link(nn.Module):
    """Maps all channels of one scale to new channels of this scale or a neighbour: 1x1, then k x k."""

    def __init__(self, config: BlockConfig, source: int, out_channels: int, stride: int) -> None:
        """`source` is the scale that it reads."""
        super().__init__()
        scales = config.scales
        assert scales is not None
        channels = scales.before(source)
        self.reduce: nn.Module = nn.Identity()
        shape = ConvShape(channels, out_channels, config.kernel, stride)
        if scales.bottleneck:
            inner = min(channels, scales.bottleneck * 2**source * out_channels)
            whole = DenseKernel(pointwise(channels, inner), scales.base[source], scales.grown, source)
            self.reduce = ConvUnit(whole, block_activation(config, inner))
            conv = Static(ConvShape(inner, out_channels, config.kernel, stride))
        else:
            conv = DenseKernel(shape, scales.base[source], scales.grown, source)
        self.conv = ConvUnit(conv, block_activation(config, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels of the source, H, W) to (B, Co, H / stride, W / stride)."""
        return self.conv(self.reduce(x))


class Growth(nn.Module):
    """Computes the channels that a layer adds to one scale, from that scale and its linked neighbours.

    Half is the scale's own where it has neighbours. The parts are interleaved, so that the leading channels
    of a wider layer are those of a narrower one.
    """

    def __init__(self, config: BlockConfig, scale: int) -> None:
        """Build it for one scale that the layer computes."""
        super().__init__()
        scales = config.scales
        assert scales is not None
        # A scale that is no more computed is read once more, by the first layer without it.
        down = scale > min(scales.finest, scales.finest_before)
        up = scales.links == "both" and scale + 1 < scales.number
        new = scales.added(scale)
        own = new // 2 if down or up else new
        other = (new - own) // (down + up) if down or up else 0
        self.own = Link(config, scale, own, 1)
        self.down = Link(config, scale - 1, other, 2) if down else None
        self.up = Link(config, scale + 1, other, 1) if up else None
        self.attention = block_attention(config, new)
        self.scale = scale

    def forward(self, maps: Maps) -> Tensor:
        """Return new channels (B, growth * 2^s, H / 2^s, W / 2^s) from all scales."""
        own = self.own(maps[self.scale])
        others = []
        if self.down is not None:
            others.append(self.down(maps[self.scale - 1]))
        if self.up is not None:
            others.append(F.interpolate(self.up(maps[self.scale + 1]), scale_factor=2.0, mode="nearest"))
        if not others:
            return self.attention(own)
        groups = own.unflatten(1, (-1, len(others)))
        return self.attention(torch.cat([groups, *(y.unsqueeze(2) for y in others)], dim=2).flatten(1, 2))


class MultiScale(nn.Module):
    """One multi-scale layer: every scale from `finest` on gets new channels, and keeps what it has.

    It is no registered block: such layers fill a stage, for what they pass on is of several scales.
    """

    def __init__(self, config: BlockConfig) -> None:
        """Build from a config with `scales`."""
        super().__init__()
        scales = config.scales
        assert scales is not None
        self.scales: Scales = scales
        self.make = nn.ModuleList()
        if scales.makes:
            for before, after in zip(scales.base, scales.base[1:], strict=False):
                conv = Static(ConvShape(before, after, config.kernel, 2))
                self.make.append(ConvUnit(conv, block_activation(config, after)))
        computed = range(scales.finest, scales.number)
        self.grow = nn.ModuleDict({str(scale): Growth(config, scale) for scale in computed})
        self.squeeze = nn.ModuleDict()
        if scales.keep < 1:
            for scale in computed:
                shape = pointwise(scales.before(scale) + scales.added(scale), scales.after(scale))
                conv = DenseKernel(shape, scales.base[scale], scales.with_own(), scale)
                self.squeeze[str(scale)] = ConvUnit(conv, block_activation(config, shape.out_channels))

    def spread(self, x: Tensor) -> Maps:
        """Return the scales of the input, which may be one packed tensor (B, C, H', W')."""
        if not self.scales.makes:
            return unpack(x, [self.scales.before(scale) for scale in range(self.scales.number)])
        maps = [x]
        for conv in self.make:
            maps.append(conv(maps[-1]))
        return tuple(maps)

    def forward(self, x: Tensor | Maps) -> Tensor | Maps:
        """Map packed maps (B, C, H', W') to packed maps, or a tuple of maps to one.

        The first layer takes a single map for both.

        Args:
            x: a tensor, or the tuple that the layer before gave, or for the first layer a tuple of one.
        """
        alone = isinstance(x, Tensor)
        maps = self.spread(x if isinstance(x, Tensor) else x[0]) if alone or self.scales.makes else tuple(x)
        found = list(maps)
        for name, grow in self.grow.items():
            found[int(name)] = torch.cat([maps[int(name)], grow(maps)], dim=1)
        for name, squeeze in self.squeeze.items():
            found[int(name)] = squeeze(found[int(name)])
        return pack(tuple(found)) if alone else tuple(found)


def through(
    slots: Iterable[tuple[str, SlotConfig]], call: Callable[[str, SlotConfig, Any], Any], maps: Tensor | Maps
) -> Tensor | Maps:
    """Run slots one after the other, with `call(slot, config, x)` running each."""
    for slot, config in slots:
        if isinstance(config, BlockConfig) and config.scales and isinstance(maps, Tensor):
            maps = (maps,)
        maps = call(slot, config, maps)
    return maps
