"""The fused inverted residual block (EfficientNetV2: Tan and Le 2021, arXiv:2104.00298, figure 2)."""

from __future__ import annotations

from torch import Tensor, nn

from dynnas.nn.blocks.expansion import EXPAND
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import HIDDEN_CHANNELS
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.hidden import ALL_HIDDEN, Hidden
from dynnas.nn.layers.layers import block_attention, block_conv, block_router
from dynnas.nn.layers.shortcut import keeps_shape
from dynnas.nn.registry import Block, register_block


@register_block("fused_mbconv")
class FusedMBConv(Block):
    """An expanding k x k, attention and a projecting 1x1 without activation; residual where shapes agree.

    With `expand` 1 both convolutions stay (the authors' code then leaves out the 1x1).
    """

    knobs = (EXPAND,)
    capacity = 120
    paper = "Tan and Le 2021, arXiv:2104.00298"
    provides = Block.provides | {HIDDEN_CHANNELS}
    reshapes = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config."""
        super().__init__()
        hidden = self.hidden_channels(config)
        convs = {
            "expand": ConvShape(config.in_channels, hidden, config.kernel, config.stride),
            "project": pointwise(hidden, config.out_channels),
        }
        self.router = block_router(config, convs)
        self.expand = block_conv(config, convs["expand"])
        self.attention = block_attention(config, hidden)
        self.project = block_conv(config, convs["project"], nn.Identity())
        self.residual = keeps_shape(config)

    @staticmethod
    def hidden_channels(config: BlockConfig) -> int:
        """Return how many channels lie between the convolutions."""
        return round(config.in_channels * config.block["expand"])

    def forward(self, x: Tensor, hidden: Hidden = ALL_HIDDEN) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride), with all or some of the hidden channels."""
        routes = self.router(x)
        y = hidden.attend(self.attention, hidden.into(self.expand, x, routes["expand"]))
        y = hidden.out_of(self.project, y, routes["project"])
        return x + y if self.residual else y
