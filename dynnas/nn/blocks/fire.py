"""The fire module (SqueezeNet: Iandola et al. 2016, arXiv:1602.07360, figure 1)."""

from __future__ import annotations

from torch import Tensor

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.interleave import Interleave
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.registry import Block, register_block


@register_block("fire")
class Fire(Block):
    """A 1x1 squeeze to an eighth of the output channels, then 1x1 and k x k in parallel, half of them each.

    The channels of the two come in turn rather than one part after the other (see `Interleave`). The stride,
    which SqueezeNet leaves to pooling between its modules, is that of the parallel convolutions.
    """

    capacity = 30
    paper = "Iandola et al. 2016, arXiv:1602.07360"
    reshapes = False
    least_channels = 2

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        width, stride = config.out_channels, config.stride
        squeezed, area = max(1, width // 8), width // 2
        convs = {
            "squeeze": pointwise(config.in_channels, squeezed),
            "point": ConvShape(squeezed, width - area, 1, stride),
            "area": ConvShape(squeezed, area, config.kernel, stride),
        }
        self.router = block_router(config, convs)
        self.squeeze = block_conv(config, convs["squeeze"])
        self.point = block_conv(config, convs["point"])
        self.area = block_conv(config, convs["area"])
        self.join = Interleave(width - area, area)
        self.attention = block_attention(config, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        y = self.squeeze(x, routes["squeeze"])
        return self.attention(self.join(self.point(y, routes["point"]), self.area(y, routes["area"])))
