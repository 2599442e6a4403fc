"""The depthwise separable block (MobileNetV1: Howard et al. 2017, arXiv:1704.04861, figure 3)."""

from __future__ import annotations

from torch import Tensor

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import DEPTHWISE
from dynnas.nn.layers.conv_shape import depthwise, pointwise
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.registry import Block, register_block


@register_block("dwsep")
class DepthwiseSeparable(Block):
    """Depthwise k x k, attention and pointwise, each with batch norm and activation, without a residual."""

    capacity = 60
    paper = "Howard et al. 2017, arXiv:1704.04861"
    provides = Block.provides | {DEPTHWISE}
    reshapes = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        convs = {
            "depthwise": depthwise(config.in_channels, config.kernel, config.stride),
            "pointwise": pointwise(config.in_channels, config.out_channels),
        }
        self.router = block_router(config, convs)
        self.depthwise = block_conv(config, convs["depthwise"])
        self.attention = block_attention(config, config.in_channels)
        self.pointwise = block_conv(config, convs["pointwise"])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        y = self.attention(self.depthwise(x, routes["depthwise"]))
        return self.pointwise(y, routes["pointwise"])
