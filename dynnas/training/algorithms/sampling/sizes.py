"""The multiply-adds of a supernet's networks, by which some algorithms choose among them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import torch

from dynnas.nn.context import Context, supplied
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.cost import cost
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space
from dynnas.supernet.staged import StagedBuild
from dynnas.supernet.supernet import Supernet
from dynnas.training.batches import part_of, rows

DRAWS = 100
"""Number of networks that are drawn to find one of a size."""


class Sizes:
    """The multiply-adds of networks for one image, with all gates open and through all exits.

    Those of a space file are counted by their configs, and those of another class in a run on two images.
    Each network is counted once.

    Args:
        supernet: whose networks they are.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self._known: dict[Architecture, int] = {}

    def of(self, architecture: Architecture, inputs: Any) -> int:
        """Return the multiply-adds of a network.

        Args:
            inputs: any batch, for its shape.
        """
        if architecture not in self._known:
            self._known[architecture] = self._count(architecture, inputs)
        return self._known[architecture]

    def _count(self, architecture: Architecture, inputs: Any) -> int:
        build = self._supernet.build
        if isinstance(build, StagedBuild):
            return cost(build.config(architecture)).macs
        two = min(2, rows(inputs))
        network = self._supernet.extract(architecture).train()
        with torch.random.fork_rng(devices=[]), supplied(network, Context(GateMode(choice="all"))):
            return count_macs(network, part_of(inputs, slice(0, two)))[1] // two

    def near(
        self, space: Space, size: int, tolerance: float, inputs: Any, rng: random.Random
    ) -> Architecture:
        """Draw a network of about a size.

        Args:
            size: multiply-adds. tolerance: the share of them by which the network may differ.
            inputs: any batch. rng: draws.

        Returns:
            The first that fits of up to `DRAWS` networks; if none does, that of the nearest size.
        """
        found, least = None, float("inf")
        for _ in range(DRAWS):
            drawn = sample(space, rng)
            away = abs(self.of(drawn, inputs) - size)
            if away < least:
                found, least = drawn, away
            if away <= tolerance * size:
                break
        assert found is not None
        return found

    def levels(self, space: Space, count: int, inputs: Any) -> Sequence[tuple[int, int]]:
        """Return `count` ranges of multiply-adds, each as many times as large as the one before it.

        Together they reach from the smallest network to the largest.
        """
        low = max(1, self.of(smallest(space), inputs))
        high = max(low + 1, self.of(largest(space), inputs))
        bounds = [low * (high / low) ** (number / count) for number in range(count + 1)]
        return [(round(one), round(other)) for one, other in itertools.pairwise(bounds)]
