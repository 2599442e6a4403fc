"""The inverted residual block (Sandler et al. 2018, arXiv:1801.04381), with attention as in MobileNetV3."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.blocks.expansion import EXPAND
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import DEPTHWISE, HIDDEN_CHANNELS
from dynnas.nn.layers.conv_shape import depthwise, pointwise
from dynnas.nn.layers.hidden import ALL_HIDDEN, Hidden
from dynnas.nn.layers.layers import ConvUnit, block_attention, block_conv, block_router
from dynnas.nn.registry import Block, register_block


@register_block("mbconv")
class MBConv(Block):
    """An expanding 1x1, depthwise k x k, attention and a projecting 1x1; residual where shapes agree.

    With `expand` 1 there is no first convolution.
    """

    knobs = (EXPAND,)
    capacity = 100
    paper = "Sandler et al. 2018, arXiv:1801.04381"
    provides = Block.provides | {DEPTHWISE, HIDDEN_CHANNELS}
    reshapes = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        hidden = self.hidden_channels(config)
        convs = {
            "expand": pointwise(config.in_channels, hidden),
            "depthwise": depthwise(hidden, config.kernel, config.stride),
            "project": pointwise(hidden, config.out_channels),
        }
        if config.block["expand"] == 1:
            del convs["expand"]
        self.router = block_router(config, convs)
        self.expand: ConvUnit | None = block_conv(config, convs["expand"]) if "expand" in convs else None
        self.depthwise = block_conv(config, convs["depthwise"])
        self.attention = block_attention(config, hidden)
        self.project = block_conv(config, convs["project"], nn.Identity())
        self.residual = config.stride == 1 and config.in_channels == config.out_channels

    @staticmethod
    def hidden_channels(config: BlockConfig) -> int:
        """Return how many channels lie between the convolutions."""
        return round(config.in_channels * config.block["expand"])

    def forward(self, x: Tensor, hidden: Hidden = ALL_HIDDEN) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride), with all or some of the hidden channels."""
        routes = self.router(x)
        y = hidden.take(x) if self.expand is None else hidden.into(self.expand, x, routes["expand"])
        y = hidden.attend(self.attention, hidden.within(self.depthwise, y, routes["depthwise"]))
        y = hidden.out_of(self.project, y, routes["project"])
        return x + y if self.residual else y
