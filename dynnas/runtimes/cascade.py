"""Cascades of finished networks: an image goes on to the next one until one of them is confident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from dynnas.nn.exits.exits import select_confident
from dynnas.nn.layers.resize import Resize
from dynnas.nn.networks.network import Body, Network, Segment


@dataclass(frozen=True)
class Link:
    """A network of a cascade before the last: its place, its key, and the confidence to leave after it."""

    name: str
    after: str
    threshold: float
    criterion: str = "confidence"


@dataclass(frozen=True)
class CascadeConfig:
    """The input of a cascade (`channels`, `resolution`, `resolution`), and where images leave it."""

    channels: int
    classes: int
    resolution: int
    exits: tuple[Link, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.resolution, self.resolution


class Cascade(nn.Module):
    """Networks one after the other, each on the image itself, at the resolution that it was made for.

    Scoring, comparison and export see a network whose exits are whole networks. Members keep their own
    exits: the confidence of what an image leaves a member with decides whether it goes on to the next.

    Args:
        networks: two or more in eval mode, for the same images and classes.
        thresholds: the largest softmax from which on an image leaves, of all networks but the last.
        names: of the networks.
        resolution: of the images that it takes, from which those of each network are made.
    """

    def __init__(
        self, networks: Sequence[Network], thresholds: Sequence[float], names: Sequence[str], resolution: int
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(network, resolution) for network in networks)
        links = (
            Link(f"network{place}", name, threshold)
            for place, (name, threshold) in enumerate(zip(names, thresholds, strict=False), start=1)
        )
        first = networks[0].config
        self.config = CascadeConfig(first.channels, first.classes, resolution, tuple(links))

    @property
    def members(self) -> list[Stage]:
        """Return the networks in order, each after the module that makes its images."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Return the thresholds of all networks but the last."""
        return tuple(link.threshold for link in self.config.exits)

    def logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, channels, R, R) to the logits (B, classes) of every network."""
        return tuple(stage(x) for stage in self.stages)

    def segments(self) -> list[Segment]:
        """Return the networks as segments, as of a network with exits.

        Nothing is done to the image in between.
        """
        links = (*self.config.exits, None)
        return [Segment(Body(), stage, link) for stage, link in zip(self.stages, links, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, R, R) to the logits (B, classes) with which each leaves.

        Everything is computed.
        """
        return select_confident(self.logits(x), self.thresholds)[0]


class Stage(nn.Module):
    """A network after the module that makes its images from those of size `resolution`.

    They become what `dynnas.nn.layers.resize.resize` makes of them.
    """

    def __init__(self, network: Network, resolution: int) -> None:
        super().__init__()
        own = network.config.resolution
        self.own = Resize(resolution, own)
        self.network = network

    @property
    def lines(self) -> np.ndarray | None:
        """Return (own, resolution): the share of each given line of pixels in each of its own.

        It is None where nothing changes.
        """
        return self.own.weights.cpu().numpy() if self.own.resizes else None

    def forward(self, x: Tensor) -> Tensor:
        own = self.own(x)
        # Without exits there is nothing to choose, which would write the batch's size into exported programs.
        return self.network(own) if self.network.config.exits else self.network.logits(own)[0]


Finished = Network | Cascade
"""A network or a cascade that can be scored, timed and shipped."""


def chain(
    networks: Sequence[Network], thresholds: Sequence[float], names: Sequence[str], data_resolution: int
) -> Cascade:
    """Return a cascade of images as its networks take them, or of the size of the data where these differ."""
    sizes = {network.config.resolution for network in networks}
    return Cascade(networks, thresholds, names, sizes.pop() if len(sizes) == 1 else data_resolution)
