"""The basic residual block (He et al. 2015, arXiv:1512.03385, figure 5 left)."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import HIDDEN_CHANNELS
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.hidden import ALL_HIDDEN, Hidden
from dynnas.nn.layers.layers import block_activation, block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import shortcut
from dynnas.nn.registry import Block, register_block


@register_block("basic")
class Basic(Block):
    """Two k x k convolutions and attention, a shortcut, and then the activation.

    The shortcut is 1x1 where the shape changes.
    """

    capacity = 110
    paper = "He et al. 2015, arXiv:1512.03385"
    provides = Block.provides | {HIDDEN_CHANNELS}

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        width = config.out_channels
        convs = {
            "first": ConvShape(config.in_channels, width, config.kernel, config.stride),
            "second": ConvShape(width, width, config.kernel),
        }
        self.router = block_router(config, convs)
        self.first = block_conv(config, convs["first"])
        self.second = block_conv(config, convs["second"], nn.Identity())
        self.attention = block_attention(config, width)
        self.shortcut = shortcut(config)
        self.act = block_activation(config, width)

    @staticmethod
    def hidden_channels(config: BlockConfig) -> int:
        """Return how many channels lie between the convolutions."""
        return config.out_channels

    def forward(self, x: Tensor, hidden: Hidden = ALL_HIDDEN) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride), with all or some of the hidden channels."""
        routes = self.router(x)
        y = hidden.into(self.first, x, routes["first"])
        y = hidden.out_of(self.second, y, routes["second"])
        return self.act(self.attention(y) + self.shortcut(x))
