"""Images of a split that are not in memory: indexed as a tensor is, and decoded when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dynnas.data.streaming.store import RowStore


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Some rows of a store, as images [N, C, H, W] of bytes.

    An index chooses rows and reads nothing; `read` decodes.

    Attributes:
        store: that decodes.
        rows: int64 [N], which of its rows.
        device: where images are put.
    """

    store: RowStore
    rows: np.ndarray
    device: torch.device | str = "cpu"

    @property
    def shape(self) -> torch.Size:
        """The number of images, channels, height and width."""
        return torch.Size((len(self.rows), *self.store.files.shape))

    @property
    def dtype(self) -> torch.dtype:
        """Bytes."""
        return torch.uint8

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor | np.ndarray | list[int]) -> StreamedImages:
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        return replace(self, rows=self.rows[index])

    def to(self, device: str | torch.device) -> StreamedImages:
        """Return the same images, to be put on another device."""
        return replace(self, device=device)

    def read(self) -> Tensor:
        """Decode all of them: uint8 [N, C, H, W].

        Raises:
            DataError: a picture is damaged, gone or has changed.
        """
        return self._on_device(self.store.read(self.rows))

    def batches(self, parts: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Decode one batch for each of `parts`, which are indices, by the workers and ahead of time.

        Raises:
            DataError: as `read`, when the batch is due.
        """
        return map(self._on_device, self.store.batches([self.rows[part] for part in parts]))

    def _on_device(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(images).to(self.device)


Images = Tensor | StreamedImages
"""Images of a split [N, C, H, W], in memory or on disk."""


def read_images(images: Images) -> Tensor:
    """Return the images themselves, [N, C, H, W]."""
    return images if isinstance(images, Tensor) else images.read()


def read_batches(images: Images, parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the images of each of `parts`, which are indices: [len(part), C, H, W]."""
    if isinstance(images, Tensor):
        return (images[part.to(images.device)] for part in parts)
    return images.batches([part.numpy() for part in parts])


def in_batches(images: Images, size: int) -> Iterator[Tensor]:
    """Yield all images in order, `size` at a time."""
    if isinstance(images, Tensor):
        return iter(images.split(size))
    return images.batches(np.split(np.arange(len(images)), range(size, len(images), size)))
