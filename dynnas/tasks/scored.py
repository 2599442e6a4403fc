"""A model whose outputs for a split are known, in the form in which a task scores it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class ScoredModel:
    """A model, what it said of a split, and the images of that split, which are read when they are asked for.

    Called with the images of the batch that `batches` gave last, it returns what is known; called with any
    others, it runs the model.

    Args:
        outputs: of the model for all images, (N, ...), each of the exit at which its image leaves.
        targets: of the images, (N, ...).
        images: gives some of them, (B, C, H, W), normalised, at the size of the data.
        run: from other such images to outputs (B, ...).
        size: images of a batch.
    """

    def __init__(
        self,
        outputs: Tensor,
        targets: Tensor,
        images: Callable[[slice], Tensor],
        run: Callable[[Tensor], Tensor],
        size: int = 256,
    ) -> None:
        self.outputs, self.targets = outputs, targets
        self._images, self._run, self._size = images, run, size
        self._last: tuple[Tensor | None, slice] = None, slice(0)

    @property
    def batches(self) -> _Batches:
        """The images (B, C, H, W) and targets (B, ...) of the split in its order, as often as you like."""
        return _Batches(self)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the images (B, C, H, W) and targets (B, ...) of one batch."""
        part = slice(index * self._size, (index + 1) * self._size)
        images = self._images(part)
        self._last = images, part
        return images, self.targets[part]

    @property
    def count(self) -> int:
        """The number of batches."""
        return math.ceil(len(self.targets) / self._size)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the outputs (B, ...) for images (B, C, H, W)."""
        last, part = self._last
        with torch.no_grad():
            return (self.outputs[part] if images is last else self._run(images)).clone()


class _Batches:
    """The batches of a split, as of a `DataLoader`: it has a length, and can be gone through often."""

    def __init__(self, model: ScoredModel) -> None:
        self._model = model

    def __len__(self) -> int:
        return self._model.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return map(self._model.batch, range(len(self)))
