"""Objects that a study was made with and that its folder cannot keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynnas.pareto.objectives import Goal
from dynnas.settings.settings import SearchSettings
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
