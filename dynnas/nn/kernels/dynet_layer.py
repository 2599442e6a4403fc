"""DyNet with a router for each layer: every convolution's coefficients are predicted from its own input."""

from __future__ import annotations

from torch import Tensor

from dynnas.nn.context import Context
from dynnas.nn.kernels.dynet import GROUP, ChannelCoefficients
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias, spread
from dynnas.nn.layers.conv_shape import ConvShape


@register_kernel("dynet_layer")
class DyNetLayer(Kernel):
    """DyNet with one router for each convolution, not for each block as in the paper (arXiv:2004.10694).

    Predicting once a block saves little arithmetic, but lets all coefficients be known before the first
    convolution; here the later convolutions can react to what the earlier ones made of the image.
    """

    knobs = (GROUP,)
    capacity = 80
    paper = "Zhang et al. 2020, arXiv:2004.10694"

    def __init__(self, shape: ConvShape, group: int = 4) -> None:
        """Make a bank of `group` kernels, and the layer's router."""
        super().__init__(shape, group)
        self.dynet_layer_router = ChannelCoefficients(shape.in_channels, shape.out_channels, group)

    def forward(self, x: Tensor, route: Tensor | None = None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W) with the bank, mixed as the layer's own router says."""
        return self.mixed(x, self.dynet_layer_router(x.mean((2, 3))), context=context)

    def part(self, x: Tensor, route: None, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute a part of the outputs, as `Kernel.part`.

        The router sees zeros for the channels that `x` lacks.
        """
        pooled = spread(x.mean((2, 3)), inputs, self.shape.in_channels)
        own = self.dynet_layer_router(pooled)
        return self.mixed_part(x, own, inputs, outputs, pick_bias(self.bias, outputs))
