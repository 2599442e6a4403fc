"""The policy network: it looks at the image first, for all gates that read its embedding.

DeepMoE's shallow embedding (Wang et al. 2019, arXiv:1806.01531, section 3.2); a network whose gates all read
it decides everything at once, as BlockDrop's does (Wu et al. 2018, arXiv:1711.08393).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.by_name import activation
from dynnas.nn.config.network import PolicyConfig
from dynnas.nn.context import Context, Contextual
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.state import Carried, Flow
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.initial import linear
from dynnas.nn.layers.layers import ConvUnit, flat, of_one_pixel

EMBEDDING = "policy"


def embedding(width: int) -> Carried:
    """Return the side value of the policy network: (B, width)."""
    return Carried(EMBEDDING, width)


@dataclass(frozen=True)
class PolicyLogits:
    """The logits (B, classes) of a policy network's classifier while it trains."""

    logits: Tensor


class Policy(Contextual):
    """Four 3x3 convolutions of stride 2 to `width` channels, pooled: an embedding e (B, width) of the image.

    What is read off e are the gates' own matrices. A last layer with a batch norm over the images stands
    before them, for the reason that `GateFeatures` gives. While it trains it has a classifier of its own,
    whose loss is added (section 3.3): e is to tell images apart, and gates alone teach it little.
    """

    def __init__(self, config: PolicyConfig) -> None:
        """Build from its config."""
        super().__init__()
        width = config.width
        channels = (config.in_channels, -(-width // 4), -(-width // 2), width, width)
        self.units = nn.Sequential(
            *(
                ConvUnit(Static(ConvShape(before, after, 3, 2)), activation("relu", after))
                for before, after in pairwise(channels)
            )
        )
        self.embed: nn.Module = ConvUnit(Static(pointwise(width, width)), activation("relu", width))
        self.classifier: nn.Module | None = linear(width, config.classes)
        self.carried = (embedding(width),)

    def forward(self, image: Tensor | Flow, *, context: Context | None = None) -> Tensor | Flow:
        """Map images (B, channels, R, R) to e (B, width), or to themselves with e beside them."""
        context = context or self.context
        if isinstance(image, Tensor):
            return self.look(image, context)
        assert isinstance(image.x, Tensor)
        return image.hand_on(image.x, {EMBEDDING: self.look(image.x, context)})

    def look(self, image: Tensor, context: Context) -> Tensor:
        """Map images (B, channels, R, R) to e (B, width); record `PolicyLogits` while training."""
        found = flat(self.embed(F.adaptive_avg_pool2d(self.units(image), 1)))
        trace = None if is_recorded() else context.trace
        if self.training and self.classifier is not None and trace is not None and trace.wants(PolicyLogits):
            trace.record(PolicyLogits(self.classifier(found)))
        return found

    @torch.no_grad()
    def settle(self) -> None:
        """Remove the classifier, for good; without its norm, the last layer is linear."""
        self.classifier = None
        if isinstance(self.embed, ConvUnit):
            self.embed = of_one_pixel(self.embed)
