"""The plain convolution block."""

from __future__ import annotations

from torch import Tensor

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.registry import Block, register_block


@register_block("conv")
class Conv(Block):
    """A k x k convolution, batch norm, activation and attention, without a residual."""

    capacity = 50
    reshapes = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        convs = {"conv": ConvShape(config.in_channels, config.out_channels, config.kernel, config.stride)}
        self.router = block_router(config, convs)
        self.conv = block_conv(config, convs["conv"])
        self.attention = block_attention(config, config.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        return self.attention(self.conv(x, routes["conv"]))
