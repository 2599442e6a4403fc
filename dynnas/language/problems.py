"""The problems of a space file: what is wrong, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from dynnas.errors import SpaceError

SHOWN = 50


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a text; line and column count from 1."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class Problem:
    """One problem of a space file."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class SpaceFileError(SpaceError):
    """Raised when a space file cannot be used.

    `problems` holds all that is wrong with it, in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"... and {len(self.problems) - SHOWN} more")
        super().__init__("\n".join(lines))


class Problems:
    """Collects the problems of one file while it is read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[Mark, str]] = []

    def add(self, mark: Mark, message: str) -> None:
        """Add a problem at `mark`."""
        self._found.append((mark, message))

    def stop(self, mark: Mark, message: str) -> NoReturn:
        """Add a problem after which nothing more can be read, and end the reading.

        Raises:
            SpaceFileError: always.
        """
        self.add(mark, message)
        raise self._error()

    def raise_if_any(self) -> None:
        """End the reading of a file that has problems.

        Raises:
            SpaceFileError: a problem was added.
        """
        if self._found:
            raise self._error()

    def _error(self) -> SpaceFileError:
        ordered = dict.fromkeys(
            sorted(self._found, key=lambda found: found[0])
        )  # an alias is read more than once
        return SpaceFileError(Problem(self.file, mark.line, mark.column, text) for mark, text in ordered)
