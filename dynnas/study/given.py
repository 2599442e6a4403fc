"""Objects that a study was made with and that its folder cannot keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynnas.space.space import Space

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from dynnas.data.dataset import Dataset
    from dynnas.metrics.measurement import Measurement


OBJECTS = "<objects>"
"""The `data.source` of a study whose data were given as objects."""


@dataclass(frozen=True)
class Given:
    """The objects of one study.

    Attributes:
        space: if it is not that of a file.
        dataset: if the settings do not name it.
        storage: of the trials, if they lie at no URL.
        measurements: that are not registered, for the directions of their metrics.
    """

    space: Space | None = None
    dataset: Dataset | None = None
    storage: BaseStorage | None = None
    measurements: tuple[Measurement, ...] = ()
