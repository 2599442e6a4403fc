"""The shortcut around a residual block."""

from __future__ import annotations

from torch import nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import ConvUnit


def keeps_shape(config: BlockConfig) -> bool:
    """Return whether a block's output has the shape of its input, so that the input can be added to it."""
    return config.stride == 1 and config.in_channels == config.out_channels


def shortcut(config: BlockConfig) -> nn.Module:
    """Return the identity or, where the shape changes, a 1x1 unit (He et al. 2015, option B).

    It is static whatever the block's op: all it does is match shapes.
    """
    if keeps_shape(config):
        return nn.Identity()
    shape = ConvShape(config.in_channels, config.out_channels, 1, config.stride)
    return ConvUnit(Static(shape), nn.Identity())
