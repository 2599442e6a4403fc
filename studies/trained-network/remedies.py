"""Other ways to tune the members of a space that was made of a trained network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.data.dataset import Dataset
from dynnas.data.transforms import Transform
from dynnas.settings.settings import TrainSettings
from dynnas.training.recipe import Recipe


@dataclass(frozen=True)
class Remedy:
    """A way to tune.

    Attributes:
        times: as many epochs as members of `elastic` are tuned for.
        teacher_weight: the teacher's share in the loss.
        whole: whether the trained network itself is tuned so as well.
        algorithms: more of the training. crops: whether images are random crops of the whole ones.
    """

    times: int
    teacher_weight: float = 0.5
    whole: bool = False
    algorithms: Mapping[str, Mapping[str, Any] | bool] = field(default_factory=dict)
    crops: bool = False

    def recipe(self, train: TrainSettings) -> Recipe:
        """Return the recipe of a training with these settings."""
        return Recipe(train.with_algorithms(**self.algorithms), teacher_weight=self.teacher_weight)

    def data(self, dataset: Dataset) -> Dataset:
        """Return the data, varied in this way."""
        return replace(dataset, augmentation=Transform.of(cropped)) if self.crops else dataset


def cropped(image: Tensor) -> Tensor:
    """Return a part of an image (C, H, W) of at least 35% of its area, enlarged, mirrored or not."""
    height, width = image.shape[1:]
    area, aspect = torch.empty(2).uniform_(0, 1).tolist()
    area, aspect = 0.35 + 0.65 * area, math.exp((2 * aspect - 1) * math.log(4 / 3))
    rows = min(height, round(height * math.sqrt(area / aspect)))
    columns = min(width, round(width * math.sqrt(area * aspect)))
    top, left = (int(torch.randint(least, ())) for least in (height - rows + 1, width - columns + 1))
    part = image[:, top : top + rows, left : left + columns].float()
    found = F.interpolate(part[None], (height, width), mode="bilinear", antialias=True)[0]
    found = found.flip(2) if torch.rand(()) < 0.5 else found
    return found.round().clamp(0, 255).to(image.dtype)


REMEDIES = {
    "longer": Remedy(8),
    "crops": Remedy(8, crops=True, whole=True),
    "matching": Remedy(8, 1.0, True, {"mixup": {}}),
}
"""`matching` is function matching: the teacher alone, on mixed images, for long (Beyer et al. 2022,
arXiv:2106.05237)."""
