"""The ShuffleNet unit (Zhang et al. 2017, arXiv:1707.01083, figure 2)."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import DEPTHWISE
from dynnas.nn.layers.conv_shape import depthwise, pointwise
from dynnas.nn.layers.interleave import Interleave
from dynnas.nn.layers.layers import block_activation, block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import keeps_shape
from dynnas.nn.registry import Block, register_block


@register_block("shuffle_v1")
class ShuffleV1(Block):
    """Grouped 1x1, shuffle, depthwise k x k, grouped 1x1 and attention; the input is added or joined.

    The input is added, or where the shape changes pooled (3x3, average) and joined by what the unit makes.
    The inner channels are a quarter of the output's, as in the paper, in multiples of four.

    There are two groups: the even and the odd channels, rather than two halves. So a channel is of the same
    group at every width, and a narrower unit is a leading part of a wider one. Each group is a convolution
    of its own, which is what makes every kernel op work here. The shuffle gives either group of the second
    convolution every other channel of either group of the first. All this is the paper's unit of two groups
    up to the order of channels; but its first unit, whose first convolution has no groups, is like the rest
    here. A pooled input of more than half of the output's channels gives only its leading ones.
    """

    capacity = 10
    paper = "Zhang et al. 2017, arXiv:1707.01083"
    provides = Block.provides | {DEPTHWISE}
    least_channels = 4

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        width = config.out_channels
        self.residual = keeps_shape(config)
        kept = 0 if self.residual else min(config.in_channels, width // 2)
        made, hidden = width - kept, 4 * max(1, width // 16)
        convs = {
            "reduce_even": pointwise(config.in_channels - config.in_channels // 2, hidden // 2),
            "reduce_odd": pointwise(config.in_channels // 2, hidden // 2),
            "depthwise": depthwise(hidden, config.kernel, config.stride),
            "restore_even": pointwise(hidden // 2, made - made // 2),
            "restore_odd": pointwise(hidden // 2, made // 2),
        }
        self.router = block_router(config, convs)
        self.reduce_even = block_conv(config, convs["reduce_even"])
        self.reduce_odd = block_conv(config, convs["reduce_odd"])
        self.join_reduced = Interleave(hidden // 2, hidden // 2)
        self.depthwise = block_conv(config, convs["depthwise"], nn.Identity())
        self.restore_even = block_conv(config, convs["restore_even"], nn.Identity())
        self.restore_odd = block_conv(config, convs["restore_odd"], nn.Identity())
        self.join_restored = Interleave(made - made // 2, made // 2)
        self.attention = block_attention(config, made)
        self.pool = nn.AvgPool2d(3, config.stride, 1)
        self.join_kept = Interleave(kept, made)
        self.act = block_activation(config, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        y = self.join_reduced(
            self.reduce_even(x[:, 0::2], routes["reduce_even"]),
            self.reduce_odd(x[:, 1::2], routes["reduce_odd"]),
        )
        y = self.depthwise(y, routes["depthwise"])
        shuffled = y.unflatten(1, (-1, 2, 2))  # (B, hidden / 4, group to be in, group come from, H', W')
        y = self.join_restored(
            self.restore_even(shuffled[:, :, 0].flatten(1, 2), routes["restore_even"]),
            self.restore_odd(shuffled[:, :, 1].flatten(1, 2), routes["restore_odd"]),
        )
        y = self.attention(y)
        return self.act(x + y if self.residual else self.join_kept(self._kept(x), y))

    def _kept(self, x: Tensor) -> Tensor:
        return self.pool(x[:, : self.join_kept.first])
