"""What a format is: how to write a network, and how to run what was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

Outputs = tuple[np.ndarray, np.ndarray | None]
"""Logits (B, classes) and, for a network with exits, the index (B,) of the exit that each image took."""

Predict = Callable[[np.ndarray], Outputs]
"""From images (B, channels, R, R) float32."""

ONE_IMAGE = "one image at a time, which leaves at the first confident exit"
ANY_BATCH = "any number of images at a time, with every exit computed"


@dataclass(frozen=True)
class Artifact:
    """A file that can be run.

    Attributes:
        file: its name in the bundle.
        batch: images that it takes at a time, None for any number.
        use: what it is for.
        python: how to run it on `image`.
    """

    file: str
    batch: int | None
    use: str
    python: str


@dataclass(frozen=True)
class Format:
    """A way to ship a network.

    Attributes:
        write: puts the bundle's files for a network, or for a cascade, into a folder.
        load: makes an artifact ready to run.
        artifacts: what of the files can be run.
        example: lines of Python that load it from the bundle's folder and run it on `image`.
        cascades: whether it takes cascades of networks as well.
        branches_at_gates: whether its file for one image leaves out what gates say; else all is computed.
        script: whether a script that needs little to be installed is written beside it.
        details: what else the manifest says.
    """

    write: Callable[[Any, Path], None]
    load: Callable[[Path], Predict]
    artifacts: tuple[Artifact, ...]
    example: tuple[str, ...]
    cascades: bool = True
    branches_at_gates: bool = False
    script: bool = False
    details: Mapping[str, int] = field(default_factory=dict)


def predict_with(module: Callable[[torch.Tensor], object]) -> Predict:
    """Run a torch module that gives logits or (logits, exit)."""

    @torch.no_grad()
    def predict(images: np.ndarray) -> Outputs:
        outputs = module(torch.from_numpy(images))
        logits, exits = outputs if isinstance(outputs, tuple) else (outputs, None)
        return logits.numpy(), None if exits is None else exits.numpy()

    return predict
