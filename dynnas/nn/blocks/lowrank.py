"""A convolution whose kernel is a product of low rank (Zhang et al. 2015, arXiv:1505.06798, section 3.1)."""

from __future__ import annotations

from torch import Tensor

from dynnas.errors import SpaceError
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.layers import block_attention, block_conv, block_kernel, block_router
from dynnas.nn.registry import Block, register_block
from dynnas.space.knob import Knob, real


@register_block("lowrank")
class LowRank(Block):
    """A k x k convolution to `rank` x Co channels, 1x1 to Co, batch norm, activation and attention.

    As a matrix (Co, Ci * k * k) the two are a k x k kernel of at most that rank. `rank` is a fraction of the
    output channels, so that it means the same at every width; at least one channel is left.
    """

    knobs = (Knob("rank", real(0.01, 1), "rank of the kernel over the output channels", default=0.25),)
    capacity = 40
    paper = "Zhang et al. 2015, arXiv:1505.06798"
    reshapes = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the config has no rank.
        """
        super().__init__()
        if config.block["rank"] is None:
            raise SpaceError("block 'lowrank' factors its kernel, and its config has no 'rank'")
        rank = max(1, round(config.out_channels * config.block["rank"]))
        convs = {
            "reduce": ConvShape(config.in_channels, rank, config.kernel, config.stride),
            "restore": pointwise(rank, config.out_channels),
        }
        self.router = block_router(config, convs)
        self.reduce = block_kernel(config, convs["reduce"])
        self.restore = block_conv(config, convs["restore"])
        self.attention = block_attention(config, config.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        routes = self.router(x)
        return self.attention(self.restore(self.reduce(x, routes["reduce"]), routes["restore"]))
