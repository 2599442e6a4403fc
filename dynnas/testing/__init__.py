"""Conformance suites: what every registered class must hold to, and a stranger's class as well.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynnas.lazy import lazy

if TYPE_CHECKING:
    from dynnas.testing.data import check_data, check_dataset
    from dynnas.testing.formats import check_format
    from dynnas.testing.measurements import check_measurement
    from dynnas.testing.runtimes import check_runtime
    from dynnas.testing.samplers import check_sampler
    from dynnas.testing.spaces import SpaceCheck, check_space
    from dynnas.testing.tasks import check_task

__all__ = [
    "SpaceCheck",
    "check_data",
    "check_dataset",
    "check_format",
    "check_measurement",
    "check_runtime",
    "check_sampler",
    "check_space",
    "check_task",
]

_HOMES = {
    "SpaceCheck": "spaces",
    "check_data": "data",
    "check_dataset": "data",
    "check_format": "formats",
    "check_measurement": "measurements",
    "check_runtime": "runtimes",
    "check_sampler": "samplers",
    "check_space": "spaces",
    "check_task": "tasks",
}

__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
