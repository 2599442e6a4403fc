"""Variation of training images, as batched integer operations on the device that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.data.transforms import Transform
from dynnas.errors import DataError
from dynnas.tasks.importing import imported, is_reference
from dynnas.tasks.task import Task


@dataclass(frozen=True)
class Augmentation:
    """A random shift of up to `shift` pixels (black comes in).

    With `flip`, half of the images are mirrored.
    """

    shift: int = 0
    flip: bool = False

    def __str__(self) -> str:
        """Say in words what is varied."""
        shifts = f"shifts of up to {self.shift} px" if self.shift else ""
        return " and ".join(filter(None, [shifts, "mirrors" if self.flip else ""])) or "no augmentation"

    def __call__(
        self, images: Tensor, targets: Tensor, task: Task, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Vary each of `images` [B, C, H, W] by its own draw, and its target [B, ...] with it.

        Args:
            task: what says how targets move.
            generator: a CPU generator wherever the images live, so that every device sees the same draws.

        Raises:
            TaskError: the task does not say how they move.
        """
        if not (self.shift or self.flip):
            return images, targets
        count = len(images)
        corners = torch.randint(0, 2 * self.shift + 1, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        corners, mirrored = corners.to(images.device), mirrored.to(images.device)
        down, right = self.shift - corners
        moved = task.moved(targets, down, right, mirrored, (images.shape[2], images.shape[3]))
        return crop(images, self.shift, corners, mirrored), moved


class Augment(Protocol):
    """Variation of training images: `Augmentation`, or a `dynnas.data.transforms.Transform`."""

    def __call__(
        self, images: Tensor, targets: Tensor, task: Task, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Vary images (B, C, H, W) and targets (B, ...) by draws of a generator."""
        ...


def augmentation(kind: str | Callable[..., Any], resolution: int) -> Augment:
    """Return the augmentation `kind` (none, shift or flip) for images of `resolution`.

    Shifts reach an eighth of the image.

    Raises:
        DataError: `kind` is another.
    """
    if not isinstance(kind, str):
        return Transform.of(kind)
    if is_reference(kind):
        return Transform.of(imported(kind, "data.augment"), kind)
    shift = max(1, resolution // 8)
    kinds = {"none": Augmentation(), "shift": Augmentation(shift), "flip": Augmentation(shift, flip=True)}
    if kind not in kinds:
        raise DataError(
            f"data.augment: {kind!r} is not known; allowed are auto, {', '.join(kinds)}, "
            "and package.module:object, a callable"
        )
    return kinds[kind]


def crop(images: Tensor, padding: int, corners: Tensor, mirrored: Tensor) -> Tensor:
    """Surround `images` [B, C, H, W] with `padding` zeros, cut H x W back out of each, mirror some of them.

    Args:
        corners: int64 [2, B], the row and column in the padded image where each cut begins, 0 to 2 * padding.
        mirrored: bool [B], the cuts to reverse from left to right.
    """
    batch, channels, height, width = images.shape
    along = torch.arange(width, device=images.device)
    rows = corners[0].unsqueeze(1) + torch.arange(height, device=images.device)
    columns = corners[1].unsqueeze(1) + torch.where(mirrored.unsqueeze(1), width - 1 - along, along)
    # One gather from flattened images: five times as fast on a CPU as indexing with rows and columns.
    padded = F.pad(images, (padding, padding, padding, padding)).flatten(2)
    index = rows.unsqueeze(2) * (width + 2 * padding) + columns.unsqueeze(1)
    index = index.view(batch, 1, height * width).expand(batch, channels, height * width)
    return padded.gather(2, index).view_as(images)
