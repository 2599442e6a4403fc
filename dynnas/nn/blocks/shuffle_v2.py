"""The ShuffleNet V2 unit (Ma et al. 2018, arXiv:1807.11164, figure 3 c and d)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import DEPTHWISE
from dynnas.nn.layers.conv_shape import depthwise, pointwise
from dynnas.nn.layers.interleave import Interleave
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import keeps_shape
from dynnas.nn.registry import Block, register_block


@register_block("shuffle_v2")
class ShuffleV2(Block):
    """Passes half of the channels on, runs 1x1, depthwise k x k, 1x1 and attention on the rest, and shuffles.

    Where the shape changes, all channels go two ways: that one, and depthwise k x k, 1x1.

    Of every four channels, the first two pass and the last two are worked on, rather than the first and the
    last half of all. So a channel has the same part to play at every width, and a narrower unit is a leading
    part of a wider one. Of the four that come out, the two new ones are the second and the fourth, so that
    in the next unit one new and one old channel pass, and no channel passes more than twice in a row. It is
    the paper's unit up to the order of channels. One to three channels beyond a multiple of four only pass.
    """

    capacity = 20
    paper = "Ma et al. 2018, arXiv:1807.11164"
    provides = Block.provides | {DEPTHWISE}
    least_channels = 4

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        inputs, width = config.in_channels, config.out_channels
        self.halves = keeps_shape(config)
        made = width // 4 * 2 if self.halves else width // 2
        convs = {
            "reduce": pointwise(made if self.halves else inputs, made),
            "depthwise": depthwise(made, config.kernel, config.stride),
            "restore": pointwise(made, made),
        }
        if not self.halves:
            convs["other_depthwise"] = depthwise(inputs, config.kernel, config.stride)
            convs["other_pointwise"] = pointwise(inputs, width - made)
        self.router = block_router(config, convs)
        self.reduce = block_conv(config, convs["reduce"])
        self.depthwise = block_conv(config, convs["depthwise"], nn.Identity())
        self.restore = block_conv(config, convs["restore"])
        self.attention = block_attention(config, made)
        if not self.halves:
            self.other_depthwise = block_conv(config, convs["other_depthwise"], nn.Identity())
            self.other_pointwise = block_conv(config, convs["other_pointwise"])
        self.join = Interleave(width - made, made)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        if self.halves:
            fours = x[:, : 2 * self.join.second].unflatten(1, (-1, 4))
            y, other = fours[:, :, 2:].flatten(1, 2), self._passing(x, fours)
        else:
            y = x
            other = self.other_depthwise(x, routes["other_depthwise"])
            other = self.other_pointwise(other, routes["other_pointwise"])
        y = self.depthwise(self.reduce(y, routes["reduce"]), routes["depthwise"])
        return self.join(other, self.attention(self.restore(y, routes["restore"])))

    def _passing(self, x: Tensor, fours: Tensor) -> Tensor:
        """Return the first two of every four channels, swapped, and the channels left beyond the fours."""
        passing = torch.stack((fours[:, :, 1], fours[:, :, 0]), 2).flatten(1, 2)
        if self.join.first == self.join.second:
            return passing
        return torch.cat((passing, x[:, 2 * self.join.second :]), 1)
