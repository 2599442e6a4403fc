"""Tasks whose outputs have names: one number for each class, label or quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from dynnas.errors import TaskError
from dynnas.tasks.task import Task


class NamedTask(Task):
    """A task whose outputs are named by the user or by the data.

    Attributes:
        noun: what the outputs are called, which is also the name of the argument that gives them.
        least: how many there must be.
    """

    noun: ClassVar[str]
    least: ClassVar[int] = 1

    @property
    def outputs(self) -> int:
        """Return the number of names.

        Raises:
            TaskError: no data have said it yet.
        """
        if not self.names:
            raise TaskError(
                f"task {self.name}: how many {self.noun} there are is not known before the data are read; "
                f"say {type(self).__name__}({self.noun}=...)"
            )
        return len(self.names)

    def take_names(self, given: int | Sequence[str] | None) -> None:
        """Set `names` to the given ones, or to numbers where only their count is known.

        Raises:
            TaskError: there are too few.
        """
        self.names = tuple(map(str, range(given))) if isinstance(given, int) else tuple(given or ())
        if given is not None and len(self.names) < self.least:
            raise TaskError(f"task {self.name}: at least {self.least} {self.noun} are needed, not {given!r}")

    def weights_of(self, given: Sequence[float] | None, argument: str) -> tuple[float, ...] | None:
        """Return the given weights, one for each name.

        Raises:
            TaskError: there are more or fewer than names.
        """
        if given is not None and self.names and len(given) != len(self.names):
            raise TaskError(
                f"task {self.name}: {len(given)} {argument} for {len(self.names)} {self.noun}; "
                "give one for each"
            )
        return None if given is None else tuple(map(float, given))
