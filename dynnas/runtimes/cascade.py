"""Cascades of finished networks: an image goes on to the next one until one of them is confident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from dynnas.nn.exits.exits import leave
from dynnas.nn.layers.resize import Resize
from dynnas.nn.networks.network import Body, Network, Segment

if TYPE_CHECKING:
    from dynnas.tasks.task import Task


@dataclass(frozen=True)
class Link:
    """A network of a cascade before the last: its place, its key, and the confidence to leave after it.

    Attributes:
        name: of the place. after: the key.
        threshold: the confidence from which on an image leaves. criterion: of the task.
        task: which says how sure an output is; None where outputs are logits of classes.
    """

    name: str
    after: str
    threshold: float
    criterion: str = "confidence"
    task: Task | None = None


@dataclass(frozen=True)
class CascadeConfig:
    """The input of a cascade, `channels` and `size` (height and width), and where images leave it."""

    channels: int
    classes: int
    size: tuple[int, int]
    exits: tuple[Link, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, *self.size


class Cascade(nn.Module):
    """Networks one after the other, each on the image itself, at the resolution that it was made for.

    Scoring, comparison and export see a network whose exits are whole networks. Members keep their own
    exits: the confidence of what an image leaves a member with decides whether it goes on to the next.

    Args:
        networks: two or more in eval mode, for the same images, that answer in the same shape.
        thresholds: the confidence from which on an image leaves, of all networks but the last.
        names: of the networks.
        size: height and width of the images that it takes, from which those of each network are made.
        task: which says how sure an output is; None where outputs are logits of classes.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        thresholds: Sequence[float],
        names: Sequence[str],
        size: tuple[int, int],
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(network, size) for network in networks)
        links = (
            Link(f"network{place}", name, threshold, task=task)
            for place, (name, threshold) in enumerate(zip(names, thresholds, strict=False), start=1)
        )
        first = networks[0].config
        self.config = CascadeConfig(first.channels, first.classes, size, tuple(links))

    @property
    def members(self) -> list[Stage]:
        """Return the networks in order, each after the module that makes its images."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Return the thresholds of all networks but the last."""
        return tuple(link.threshold for link in self.config.exits)

    def logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, channels, H, W) to the outputs (B, ...) of every network."""
        return tuple(stage(x) for stage in self.stages)

    def segments(self) -> list[Segment]:
        """Return the networks as segments, as of a network with exits.

        Nothing is done to the image in between.
        """
        links = (*self.config.exits, None)
        return [Segment(Body(), stage, link) for stage, link in zip(self.stages, links, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to the outputs (B, ...) with which each leaves.

        Everything is computed.
        """
        return leave(self.logits(x), self.config.exits)[0]


class Stage(nn.Module):
    """A network after the module that makes its images from those of a `size` (height and width).

    They become what `dynnas.nn.layers.resize.resize` makes of them.
    """

    def __init__(self, network: Network, size: tuple[int, int]) -> None:
        super().__init__()
        _, height, width = network.config.shape
        self.own = Resize(size, (height, width))
        self.network = network

    @property
    def lines(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the share of each given line of pixels in each of its own, along both sides.

        They are (own, given) heights and widths, or None where nothing changes.
        """
        if not self.own.resizes:
            return None
        return self.own.rows.cpu().numpy(), self.own.columns.cpu().numpy()

    def forward(self, x: Tensor) -> Tensor:
        own = self.own(x)
        # Without exits there is nothing to choose, which would write the batch's size into exported programs.
        return self.network(own) if self.network.config.exits else self.network.logits(own)[0]


Finished = Network | Cascade
"""A network or a cascade that can be scored, timed and shipped."""
