"""Objects that a study was made with and that its folder cannot keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynnas.errors import DataError
from dynnas.pareto.objectives import Goal
from dynnas.settings.settings import DataSettings, SearchSettings
from dynnas.space.space import Space

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from dynnas.data.dataset import Dataset
    from dynnas.metrics.measurement import Measurement
    from dynnas.tasks.task import Task


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


def data_of(settings: DataSettings, folder: Path) -> Dataset:
    """Read the data of the study in a folder.

    Raises:
        DataError: they cannot be read; it says what to do if they have moved.
    """
    from dynnas.data.load import load_data  # needs torch, which a study of a table does not

    try:
        return load_data(settings)
    except DataError as error:
        raise DataError(
            f"{folder}: the data of the study cannot be read ({error}); if they have moved, run the search "
            "again with their new place as data.source: equal images are accepted"
        ) from error


def goal_of(search: SearchSettings, task: Task | None, measurements: Sequence[Measurement]) -> Goal:
    """Return the objectives and limits of a search.

    Args:
        search: its settings.
        task: its metrics count beside those that dynnas knows; None for no more.
        measurements: those that are not registered; their metrics count too.

    Raises:
        StudyError: an objective or a limit is no metric.
    """
    given = [metric for measurement in measurements for metric in measurement.gives]
    return Goal.of(search.objectives, search.constraints, [*(task.metrics if task else ()), *given])
