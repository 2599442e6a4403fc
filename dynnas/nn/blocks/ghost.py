"""The ghost bottleneck (GhostNet: Han et al. 2020, arXiv:1911.11907, figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dynnas.nn.blocks.expansion import EXPAND
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import DEPTHWISE
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape, depthwise, pointwise
from dynnas.nn.layers.interleave import Interleave
from dynnas.nn.layers.layers import ConvUnit, block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import keeps_shape
from dynnas.nn.registry import Block, register_block


class GhostUnit(nn.Module):
    """Makes half of the feature maps by a 1x1 convolution, and the rest from these by a depthwise one.

    A map and its ghost come in turn rather than one half after the other (see `Interleave`).
    """

    def __init__(self, config: BlockConfig, shapes: Mapping[str, ConvShape], name: str, linear: bool) -> None:
        """Build a unit whose convolutions are `shapes(name, ...)`; a `linear` one has no activation."""
        super().__init__()
        self.names = (f"{name}_primary", f"{name}_cheap")
        primary, cheap = (shapes[own] for own in self.names)
        self.primary = block_conv(config, primary, nn.Identity() if linear else None)
        self.cheap = block_conv(config, cheap, nn.Identity() if linear else None)
        self.join = Interleave(primary.out_channels, cheap.out_channels)

    @staticmethod
    def shapes(name: str, in_channels: int, out_channels: int, kernel: int) -> dict[str, ConvShape]:
        """Return the convolutions of a unit, with its name; for an odd number, the last map has no ghost."""
        return {
            f"{name}_primary": pointwise(in_channels, out_channels - out_channels // 2),
            f"{name}_cheap": depthwise(out_channels // 2, kernel, 1),
        }

    def forward(self, x: Tensor, routes: Mapping[str, Any]) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H, W)."""
        primary, cheap = self.names
        maps = self.primary(x, routes[primary])
        originals = maps if self.join.first == self.join.second else maps[:, : self.join.second]
        return self.join(maps, self.cheap(originals, routes[cheap]))


@register_block("ghost")
class Ghost(Block):
    """An expanding ghost unit, depthwise k x k if strided, attention, a linear ghost unit and the shortcut.

    Where the shape changes the shortcut is depthwise k x k and 1x1, static whatever the block's op. The
    kernel size is that of every depthwise convolution, the cheap ones too (3 in GhostNet).
    """

    knobs = (EXPAND,)
    capacity = 90
    paper = "Han et al. 2020, arXiv:1911.11907"
    provides = Block.provides | {DEPTHWISE}
    least_channels = 2

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        hidden = round(config.in_channels * config.block["expand"])
        convs = {
            **GhostUnit.shapes("expand", config.in_channels, hidden, config.kernel),
            "depthwise": depthwise(hidden, config.kernel, config.stride),
            **GhostUnit.shapes("project", hidden, config.out_channels, config.kernel),
        }
        if config.stride == 1:
            del convs["depthwise"]
        self.router = block_router(config, convs)
        self.expand = GhostUnit(config, convs, "expand", linear=False)
        self.depthwise: ConvUnit | None = None
        if "depthwise" in convs:
            self.depthwise = block_conv(config, convs["depthwise"], nn.Identity())
        self.attention = block_attention(config, hidden)
        self.project = GhostUnit(config, convs, "project", linear=True)
        self.shortcut = _shortcut(config)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        y = self.expand(x, routes)
        if self.depthwise is not None:
            y = self.depthwise(y, routes["depthwise"])
        return self.project(self.attention(y), routes) + self.shortcut(x)


def _shortcut(config: BlockConfig) -> nn.Module:
    if keeps_shape(config):
        return nn.Identity()
    shapes = (
        depthwise(config.in_channels, config.kernel, config.stride),
        pointwise(config.in_channels, config.out_channels),
    )
    return nn.Sequential(*(ConvUnit(Static(shape), nn.Identity()) for shape in shapes))
