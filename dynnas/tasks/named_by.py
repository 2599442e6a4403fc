"""The task that a text names: a registered one, or an object to be imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynnas.errors import DataError
from dynnas.tasks.importing import called, imported, is_reference
from dynnas.tasks.registry import TASKS
from dynnas.tasks.task import Task


def task_named(name: str, options: Mapping[str, Any] | None = None) -> Task:
    """Return the task of a registered name, or the object (or a function's result) at package.module:name.

    Args:
        name: of the task. options: arguments of its class.

    Raises:
        TaskError: there is no task of that name.
        DataError: it cannot be imported, or is no task.
    """
    if not is_reference(name):
        return TASKS[name].of_options(options or {})
    found = imported(name, "data.task")
    if isinstance(found, type) and issubclass(found, Task):
        return found.of_options(options or {})
    if options:
        raise DataError(f"data.task_options: {name} is no class of a task, and takes none; leave them out")
    found = found if isinstance(found, Task) else called(found, f"data.task: {name}")
    if not isinstance(found, Task):
        raise DataError(f"data.task: {name} is a {type(found).__name__}; needed is a dynnas.tasks.Task")
    return found
