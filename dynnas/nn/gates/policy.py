"""One small network that looks at the image first, for all gates that read it.

DeepMoE's shallow embedding (Wang et al. 2019, arXiv:1806.01531, section 3.2); a network whose gates all read
it decides everything at once, as BlockDrop's does (Wu et al. 2018, arXiv:1711.08393).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.state import Carried, Flow
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.initial import linear
from dynnas.nn.layers.layers import ConvUnit, activation, flat, of_one_pixel
from dynnas.space.config.network import PolicyConfig

EMBEDDING = "policy"


def embedding(width: int) -> Carried:
    """What the policy network hands on: (B, width)."""
    return Carried(EMBEDDING, width)


class Policy(nn.Module):
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

    def forward(self, image: Tensor | Flow) -> Tensor | Flow:
        """Images (B, channels, R, R) to e (B, width), or to themselves with e beside them."""
        if isinstance(image, Tensor):
            return self.look(image)
        assert isinstance(image.x, Tensor)
        return image.hand_on(image.x, {EMBEDDING: self.look(image.x)})

    def look(self, image: Tensor) -> Tensor:
        """Images (B, channels, R, R) to e (B, width)."""
        found = flat(self.embed(F.adaptive_avg_pool2d(self.units(image), 1)))
        if self.training and self.classifier is not None:
            _tell(self.classifier(found))
        return found

    @torch.no_grad()
    def settle(self) -> None:
        """Leave the classifier out, for good; without its norm, the last layer is linear."""
        self.classifier = None
        if isinstance(self.embed, ConvUnit):
            self.embed = of_one_pixel(self.embed)


_LISTENER: ContextVar[Callable[[Tensor], None] | None] = ContextVar("policy", default=None)


@contextmanager
def guesses() -> Iterator[list[Tensor]]:
    """What the classifiers of policy networks say that this thread trains meanwhile: logits (B, classes)."""
    found: list[Tensor] = []
    token = _LISTENER.set(found.append)
    try:
        yield found
    finally:
        _LISTENER.reset(token)


def _tell(logits: Tensor) -> None:
    if not is_recorded() and (listener := _LISTENER.get()) is not None:
        listener(logits)
