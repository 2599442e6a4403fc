"""The module of separable convolutions of Xception (Chollet 2017, arXiv:1610.02357, figure 5)."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import DEPTHWISE
from dynnas.nn.layers.conv_shape import depthwise, pointwise
from dynnas.nn.layers.layers import block_activation, block_attention, block_conv, block_kernel, block_router
from dynnas.nn.layers.shortcut import shortcut
from dynnas.nn.registry import Block, register_block


@register_block("sepconv")
class SeparableConvs(Block):
    """Two times activation, depthwise k x k, pointwise and batch norm, then attention and the shortcut.

    Nothing stands between depthwise and pointwise (section 4.7). The stride is that of a 3x3 max pooling
    after the convolutions, as in the paper's entry flow; without one this is a module of the middle flow,
    with two convolutions rather than three.
    """

    capacity = 70
    paper = "Chollet 2017, arXiv:1610.02357"
    provides = Block.provides | {DEPTHWISE}

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        width, kernel = config.out_channels, config.kernel
        convs = {
            "depthwise1": depthwise(config.in_channels, kernel, 1),
            "pointwise1": pointwise(config.in_channels, width),
            "depthwise2": depthwise(width, kernel, 1),
            "pointwise2": pointwise(width, width),
        }
        self.router = block_router(config, convs)
        self.act1 = block_activation(config, config.in_channels)
        self.depthwise1 = block_kernel(config, convs["depthwise1"])
        self.pointwise1 = block_conv(config, convs["pointwise1"])
        self.depthwise2 = block_kernel(config, convs["depthwise2"])
        self.pointwise2 = block_conv(config, convs["pointwise2"], nn.Identity())
        self.attention = block_attention(config, width)
        self.pool = nn.MaxPool2d(3, config.stride, 1) if config.stride > 1 else nn.Identity()
        self.shortcut = shortcut(config)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        y = self.depthwise1(self.act1(x), routes["depthwise1"])
        y = self.pointwise1(y, routes["pointwise1"])  # with the activation that precedes the next
        y = self.pointwise2(self.depthwise2(y, routes["depthwise2"]), routes["pointwise2"])
        return self.pool(self.attention(y)) + self.shortcut(x)
