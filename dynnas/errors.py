"""The one exception family: every message says where, what, what is allowed and how to mend it.

The command line prints these as one message and exits with code 2; anything else is a bug of ours.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class DynnasError(Exception):
    """The base class of every error that a user can cause and mend."""


class SpaceError(DynnasError):
    """Raised when a space, an architecture or a space file is not legal."""


class DataError(DynnasError):
    """Raised when a data set is missing or not in a readable form."""


class TaskError(DynnasError):
    """Raised when a task does not fit the data or the network, or cannot do what it is asked for."""


class TrainingError(DynnasError):
    """Raised when training cannot go on (a loss that is not finite, a checkpoint of another study)."""


class TargetError(DynnasError):
    """Raised when the target device or runtime cannot be used as asked."""


class StudyError(DynnasError):
    """Raised when a study cannot be opened, continued, or asked for what it does not hold."""


class UnavailableError(StudyError):
    """Raised by an evaluator for what it cannot evaluate: a candidate that is rejected, not a failure."""


class ExhaustedError(StudyError):
    """Raised by a sampler where the study has seen every architecture of the space."""


class StorageError(StudyError):
    """Raised when the database of a study cannot be reached or written; nothing that it holds is lost."""


class ExportError(DynnasError):
    """Raised when an exported model could not be written or does not agree with the network."""


class PluginError(DynnasError):
    """Raised when an installed plug-in cannot be loaded; the message names its package and entry point."""


class MissingExtraError(DynnasError):
    """Raised when an optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtraError(
            f"{module} is not installed; it comes with the extra {extra!r}: pip install 'dynnas[{extra}]'"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'width'?)` for a name that is close to a known one, else an empty text."""
    spelled = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" (did you mean {spelled[matches[0]]!r}?)" if matches else ""
