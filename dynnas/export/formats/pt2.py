"""Torch's exported programs, which run without dynnas."""

from __future__ import annotations

from pathlib import Path

import torch

from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Artifact, Format, Predict, predict_with
from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.torch.export import to_pt2, to_pt2_batch


def _write(network: Finished, folder: Path) -> None:
    torch.export.save(to_pt2(network), folder / "model.pt2")
    torch.export.save(to_pt2_batch(network), folder / "model_batch.pt2")


def _load(path: Path) -> Predict:
    return predict_with(torch.export.load(path).module())


def _python(file: str) -> str:
    return f'torch.export.load("{file}").module()(image)'


PT2 = Format(
    write=_write,
    load=_load,
    artifacts=(
        Artifact("model.pt2", 1, ONE_IMAGE, _python("model.pt2")),
        Artifact("model_batch.pt2", None, ANY_BATCH, _python("model_batch.pt2")),
    ),
    example=("import torch", 'outputs = torch.export.load("model.pt2").module()(image)'),
)
