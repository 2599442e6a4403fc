"""The plain convolution block."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.registry import register_block
from dynnas.space.config.network import BlockConfig


@register_block("conv")
class Conv(nn.Module):
    """k x k convolution, batch norm, activation, attention; no residual."""

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        convs = {"conv": ConvShape(config.in_channels, config.out_channels, config.kernel, config.stride)}
        self.router = block_router(config, convs)
        self.conv = block_conv(config, convs["conv"])
        self.attention = block_attention(config, config.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        return self.attention(self.conv(x, routes["conv"]))
