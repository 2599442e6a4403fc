"""Torch's exported programs, which run without dynnas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.export.formats.format import (
    ANY_BATCH,
    ONE_IMAGE,
    Format,
    ModelFile,
    predict_with,
    register_format,
)

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict
    from dynnas.runtimes.cascade import Finished


def _python(file: str) -> str:
    return f'torch.export.load("{file}").module()(image)'


@register_format
class Pt2(Format):
    """A program for one image, and one for batches; `metadata` are extra files in it."""

    name = "pt2"
    models: ClassVar = (
        ModelFile("model.pt2", 1, ONE_IMAGE, _python("model.pt2")),
        ModelFile("model_batch.pt2", None, ANY_BATCH, _python("model_batch.pt2")),
    )
    example: ClassVar = ("import torch", 'outputs = torch.export.load("model.pt2").module()(image)')

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Trace and save."""
        import torch

        from dynnas.runtimes.torch.export import to_pt2, to_pt2_batch

        said = dict(metadata)
        torch.export.save(to_pt2(network), folder / "model.pt2", extra_files=said)
        torch.export.save(to_pt2_batch(network), folder / "model_batch.pt2", extra_files=said)

    def load(self, path: Path) -> Predict:
        """Load the program as a module."""
        import torch

        return predict_with(torch.export.load(path).module())
