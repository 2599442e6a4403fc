"""Import of objects that a space file names: package.module:name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dynnas.errors import DataError
from dynnas.settings.settings import REFERENCE


def is_reference(text: str) -> bool:
    """Return whether `text` has the form package.module:name."""
    return REFERENCE.matches(text)


def imported(reference: str, what: str) -> Any:
    """Return the object `package.module:name`; modules are also looked for in the working folder.

    Args:
        what: the setting that names it, for the message.

    Raises:
        DataError: there is none.
    """
    module, _, attribute = reference.partition(":")
    with _working_folder():
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise DataError(
                f"{what}: {reference!r} cannot be imported ({error}); needed is package.module:name, "
                "installed or in the working folder"
            ) from error
    return found


def called(function: Callable[[], Any] | Any, what: str) -> Any:
    """Call a function and return its result; return anything else as it is.

    Raises:
        DataError: it raises an error.
    """
    if not callable(function):
        return function
    try:
        return function()
    except Exception as error:  # whatever a stranger's function may raise
        raise DataError(f"{what}: {function!r} raised {type(error).__name__}: {error}") from error


@contextmanager
def _working_folder() -> Iterator[None]:
    """Put the working folder at the end of the module search path."""
    sys.path.append("")
    try:
        yield
    finally:
        sys.path.remove("")
