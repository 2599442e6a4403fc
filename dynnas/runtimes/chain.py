"""Cascades for runtimes whose programs cannot branch: networks run one by one, and Python decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dynnas.nn.networks.network import Network
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.runtime import Runner


class ChainRunner:
    """A `Runner` of single images that runs one network after another until one is confident.

    Args:
        cascade: of the networks.
        build: makes one of them ready.
    """

    def __init__(self, cascade: Cascade, build: Callable[[Network], Runner]) -> None:
        runners = (build(stage.network) for stage in cascade.members)
        lines = (stage.lines for stage in cascade.members)
        self._links = tuple(zip(runners, lines, (*cascade.thresholds, None), strict=True))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        for runner, lines, threshold in self._links:
            logits = runner(image if lines is None else lines @ image @ lines.T)
            if threshold is None or _confidence(logits) >= threshold:
                break
        return logits


def _confidence(logits: np.ndarray) -> float:
    """Return the largest softmax of logits (1, classes)."""
    return float(1 / np.exp(logits - logits.max()).sum())
