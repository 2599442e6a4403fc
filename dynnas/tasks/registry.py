"""The registry of tasks."""

from __future__ import annotations

from dynnas.errors import TaskError
from dynnas.registry import Registry
from dynnas.tasks.task import Task

TASKS: Registry[type[Task]] = Registry(
    "task",
    group="dynnas.tasks",
    package="dynnas.tasks.builtin",
    order=lambda task: task.name,
    error=TaskError,
)
"""Task classes by the names that space files and networks use."""
