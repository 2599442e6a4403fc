"""The registries whose names settings may have; their entries lie in the packages that they name."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from dynnas.errors import StudyError, TargetError, TrainingError
from dynnas.registry import Registry

RUNTIMES: Registry[Any] = Registry(
    "runtime",
    group="dynnas.runtimes",
    package="dynnas.runtimes.backends",
    order=attrgetter("rank"),
    error=TargetError,
)
"""Subclasses of `dynnas.runtimes.runtime.Runtime` by their names, the one to prefer first."""

SAMPLERS: Registry[Any] = Registry(
    "sampler", group="dynnas.samplers", package="dynnas.samplers.builtin", error=StudyError
)
"""Classes of samplers by their names; see `dynnas.samplers.builtin.families`."""

ALGORITHMS: Registry[Any] = Registry(
    "algorithm", group="dynnas.algorithms", package="dynnas.training.algorithms", error=TrainingError
)
"""Classes of training algorithms by their names: see `dynnas.training.algorithm`."""
