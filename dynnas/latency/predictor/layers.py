"""Networks in pieces: every slot with the size of its input maps, which together decide its time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.layer_features import Piece, pieces_of
from dynnas.nn.networks.network import Network, build
from dynnas.settings.settings import TargetSettings


def piece_workload(piece: Piece, target: TargetSettings) -> Workload:
    """Return the benchmark of a piece alone, with weights that do not matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(piece.config).eval()
    runner = build_runner(module, target, piece.shape)
    shape = (target.batch, *piece.shape)
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return Workload(runner, [image])


_ALWAYS, _NEVER = 0.0, 2.0
"""Thresholds of a confidence that every image reaches, and none."""


@dataclass(frozen=True)
class ExitPath:
    """The pieces that an image runs which leaves by the exit of index `exit`.

    The number of exits stands for the head.
    """

    config: NetworkConfig
    exit: int

    @staticmethod
    def of(config: NetworkConfig, exit: int) -> ExitPath:
        """Return the path with thresholds that lead every image there."""
        places = tuple(
            replace(place, threshold=_ALWAYS if index == exit else _NEVER)
            for index, place in enumerate(config.exits)
        )
        return ExitPath(replace(config, exits=places), exit)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Return all pieces that the image runs."""
        return sum(pieces_of(self.config)[: self.exit + 1], ())

    def workload(self, target: TargetSettings) -> Workload:
        """Return the benchmark of the path, with weights that do not matter."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Network(self.config).eval()
        shape = (target.batch, *self.config.shape)
        image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return Workload(build_runner(network, target), [image])
