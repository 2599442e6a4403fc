"""The bottleneck residual block (He et al. 2015, arXiv:1512.03385, figure 5 right)."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import HIDDEN_CHANNELS
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.hidden import ALL_HIDDEN, Hidden
from dynnas.nn.layers.layers import block_activation, block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import shortcut
from dynnas.nn.registry import Block, register_block


@register_block("bottleneck")
class Bottleneck(Block):
    """A 1x1 convolution to a quarter of the output channels, k x k, 1x1, attention, a shortcut, activation.

    The stride is that of the k x k convolution, as everywhere today; the paper has it in the first 1x1.
    """

    capacity = 80
    paper = "He et al. 2015, arXiv:1512.03385"
    provides = Block.provides | {HIDDEN_CHANNELS}

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        width = config.out_channels
        hidden = self.hidden_channels(config)
        convs = {
            "reduce": pointwise(config.in_channels, hidden),
            "middle": ConvShape(hidden, hidden, config.kernel, config.stride),
            "restore": pointwise(hidden, width),
        }
        self.router = block_router(config, convs)
        self.reduce = block_conv(config, convs["reduce"])
        self.middle = block_conv(config, convs["middle"])
        self.restore = block_conv(config, convs["restore"], nn.Identity())
        self.attention = block_attention(config, width)
        self.shortcut = shortcut(config)
        self.act = block_activation(config, width)

    @staticmethod
    def hidden_channels(config: BlockConfig) -> int:
        """Return how many channels lie between the convolutions."""
        return max(1, config.out_channels // 4)

    def forward(self, x: Tensor, hidden: Hidden = ALL_HIDDEN) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride), with all or some of the hidden channels."""
        routes = self.router(x)
        y = hidden.into(self.reduce, x, routes["reduce"])
        y = hidden.within(self.middle, y, routes["middle"])
        y = hidden.out_of(self.restore, y, routes["restore"])
        return self.act(self.attention(y) + self.shortcut(x))
