"""Augmentation by a callable of the user's, such as the transforms of torchvision."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynnas.errors import DataError
from dynnas.tasks.task import Task

_TORCHVISION = "torchvision.transforms.v2"


@dataclass(frozen=True)
class Transform:
    """Training images that are varied by a callable, each by draws of its own.

    An image is (C, H, W), bytes or as the data set holds it, and comes back in the same shape and type. Where
    targets belong to places (masks, boxes), the callable takes an image and its target and returns both; the
    transforms of `torchvision.transforms.v2` are given them as masks and boxes. What is drawn from torch,
    numpy or `random` follows from the seed, the epoch and the step.

    Attributes:
        name: of the callable: two with one name are taken for equal.
        function: the callable.
    """

    name: str
    function: Callable[..., Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, function: Callable[..., Any], name: str = "") -> Transform:
        """Make one of a callable, which is called by its own words if there is no `name`."""
        words = repr(function)
        if " at 0x" in words:
            words = f"{type(function).__module__}.{type(function).__qualname__}"
            words = getattr(function, "__qualname__", words)
        return cls(name or " ".join(words.split()), function)

    def __str__(self) -> str:
        """Say in words what varies images."""
        return f"varied by {self.name}"

    def __call__(
        self, images: Tensor, targets: Tensor, task: Task, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Vary each of `images` (B, C, H, W), and its target (B, ...) with it where targets are of places.

        Raises:
            DataError: the callable raises an error, or changes the shape or the type of an image.
        """
        seeds = torch.randint(2**31, (len(images),), generator=generator).tolist()
        placed = targets.ndim > 2
        varied, moved = [], []
        for image, target, seed in zip(images.cpu(), targets.cpu(), seeds, strict=True):
            with _seeded(seed):
                found, place = self._one(image, target, placed)
            varied.append(self._checked(found, image))
            moved.append(place)
        made = torch.stack(varied).to(images.device)
        return made, torch.stack(moved).to(targets) if placed else targets

    def _one(self, image: Tensor, target: Tensor, placed: bool) -> tuple[Any, Any]:
        try:
            if not placed:
                return self.function(image), target
            if type(self.function).__module__.startswith(_TORCHVISION):
                return _by_torchvision(self.function, image, target)
            found, moved = self.function(image, target)
            return found, torch.as_tensor(moved)
        except Exception as error:  # whatever a stranger's function may raise
            raise DataError(f"data.augment: {self.name} raised {type(error).__name__}: {error}") from error

    def _checked(self, found: Any, image: Tensor) -> Tensor:
        found = torch.as_tensor(found)
        if (found.shape, found.dtype) != (image.shape, image.dtype):
            raise DataError(
                f"data.augment: {self.name} made {found.dtype} {tuple(found.shape)} of an image that is "
                f"{image.dtype} {tuple(image.shape)}; let it keep both, such as by cropping to the same size"
            )
        return found.contiguous()


def _by_torchvision(function: Callable[..., Any], image: Tensor, target: Tensor) -> tuple[Any, Any]:
    """Vary an image with its mask (H, W), or with its boxes (M, 5) of class, x1, y1, x2, y2."""
    from torchvision import tv_tensors

    if target.shape == image.shape[-2:]:
        found, mask = function(tv_tensors.Image(image), tv_tensors.Mask(target))
        return found.as_subclass(Tensor), mask.as_subclass(Tensor)
    there = target[:, 0] >= 0
    boxes = tv_tensors.BoundingBoxes(target[there, 1:], format="XYXY", canvas_size=tuple(image.shape[-2:]))
    said = function({"image": tv_tensors.Image(image), "boxes": boxes, "labels": target[there, 0]})
    corners = said["boxes"].as_subclass(Tensor)
    whole = (corners[:, 2:] > corners[:, :2]).all(1)
    moved = torch.full_like(target, -1)
    moved[: int(whole.sum())] = torch.cat([said["labels"][:, None], corners], 1)[whole].to(target.dtype)
    return said["image"].as_subclass(Tensor), moved


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all that may draw, and leave it as it was."""
    of_random, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(of_random)
            np.random.set_state(of_numpy)
