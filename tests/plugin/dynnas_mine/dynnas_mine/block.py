"""A residual pair of convolutions without an activation behind the sum."""

from torch import nn

from dynnas.nn.facts import HIDDEN_CHANNELS
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.hidden import ALL_HIDDEN
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import shortcut
from dynnas.nn.registry import Block
from dynnas.space.knob import Knob, real


class Squared(Block):
    """k x k to `swell` times the output channels, k x k back, attention, plus the shortcut."""

    knobs = (Knob("swell", real(0.5, 4), "inner channels over output channels", default=1.5),)
    provides = Block.provides | {HIDDEN_CHANNELS}
    capacity = 115

    def __init__(self, config):
        super().__init__()
        width, hidden = config.out_channels, self.hidden_channels(config)
        convs = {
            "first": ConvShape(config.in_channels, hidden, config.kernel, config.stride),
            "second": ConvShape(hidden, width, config.kernel),
        }
        self.router = block_router(config, convs)
        self.first = block_conv(config, convs["first"])
        self.second = block_conv(config, convs["second"], nn.Identity())
        self.attention = block_attention(config, width)
        self.shortcut = shortcut(config)

    @staticmethod
    def hidden_channels(config):
        return round(config.out_channels * config.block["swell"])

    def forward(self, x, hidden=ALL_HIDDEN):
        routes = self.router(x)
        y = hidden.into(self.first, x, routes["first"])
        return self.attention(hidden.out_of(self.second, y, routes["second"])) + self.shortcut(x)
