"""Cascades for runtimes whose programs cannot branch: networks run one by one, and Python decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dynnas.nn.exits.exits import is_confident_at
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
        self._links = tuple(zip(runners, lines, (*cascade.config.exits, None), strict=True))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        for runner, lines, link in self._links:
            output = runner(image if lines is None else lines[0] @ image @ lines[1].T)
            if link is None or is_confident_at(link, torch.from_numpy(output)).item():
                break
        return output
