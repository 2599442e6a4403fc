"""Other ways to tune the members of a space that was made of a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dynnas.settings.settings import TrainSettings
from dynnas.training.recipe import Recipe


@dataclass(frozen=True)
class Remedy:
    """A way to tune.

    Attributes:
        times: as many epochs as members of `elastic` are tuned for.
        teacher_weight: the teacher's share in the loss.
        whole: whether the trained network itself is tuned so as well.
        algorithms: more of the training.
    """

    times: int
    teacher_weight: float = 0.5
    whole: bool = False
    algorithms: Mapping[str, Mapping[str, Any] | bool] = field(default_factory=dict)

    def recipe(self, train: TrainSettings) -> Recipe:
        """Return the recipe of a training with these settings."""
        return Recipe(train.with_algorithms(**self.algorithms), teacher_weight=self.teacher_weight)


REMEDIES = {
    "longer": Remedy(8),
    "matching": Remedy(8, 1.0, True, {"mixup": {}}),
}
"""`matching` is function matching: the teacher alone, on mixed images, for long (Beyer et al. 2022,
arXiv:2106.05237)."""
