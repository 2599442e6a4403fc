"""Gather-excite (Hu et al. 2018, arXiv:1810.12348), with a gather operator that learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import depthwise
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.registry import Attention, register_attention
from dynnas.space.knob import Knob, whole


@register_attention("gather_excite")
class GatherExcite(Attention):
    """Computes x * sigmoid(enlarged(gather(x))), the paper's GE-theta+ (section 3.2).

    The gather operator is a chain of depthwise 3x3 convolutions of stride 2, with batch norms, and a ReLU
    between them: what a value sees is 2 ** halvings pixels wide, and its gate is that of its neighbourhood.
    Enlarging repeats values. With an extent as large as the map it is global.
    """

    knobs = (
        Knob(
            "halvings",
            whole(1, 6),
            "strided convolutions of the gather operator; its extent is 2 to the power of it",
            default=2,
        ),
    )
    capacity = 16
    paper = "Hu et al. 2018, arXiv:1810.12348"

    def __init__(self, channels: int, halvings: int = 2) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        self.gather = nn.Sequential(
            *(
                ConvUnit(Static(depthwise(channels, 3, 2)), nn.ReLU() if step < halvings else nn.Identity())
                for step in range(1, halvings + 1)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x * torch.sigmoid(F.interpolate(self.gather(x), size=x.shape[2:]))
