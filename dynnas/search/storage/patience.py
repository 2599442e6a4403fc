"""What becomes of a search whose database does not answer, or has no space left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from dynnas.errors import StorageError
from dynnas.progress import Progress
from dynnas.search.storage.interrupts import let_through, uninterrupted

_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0

# Classes of SQLSTATE that waiting does not mend: no privileges, no such database, no space or memory.
_LASTING = ("28", "3D", "42", "53")

Result = TypeVar("Result")


class Patience:
    """Tries again for a minute while a database server is away; says in one message what else is wrong.

    Args:
        url: of the database.
        progress: is told of waiting.
    """

    def __init__(self, url: str, progress: Progress) -> None:
        self._where = without_password(url)
        self._progress = progress

    def __call__(self, work: Callable[[bool], Result]) -> Result:
        """What `work` gives. Its argument is whether it is tried again, after it may have been done already.

        Raises:
            StorageError: the database cannot be reached or written.
        """
        began: float | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                with uninterrupted(), self.in_words():
                    return work(began is not None)
            except _AwayError as error:
                now = time.monotonic()
                if began is None:
                    began = now
                    self._progress.message(f"{error}; trying again for {_SECONDS:g} seconds")
                if now - began >= _SECONDS:
                    raise StorageError(
                        f"{error}, for {_SECONDS:g} seconds now; nothing that is finished is lost: when "
                        "it is back, the same command continues"
                    ) from error.__cause__
                let_through()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Turn what the database says into one message."""
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            said = str(getattr(cause, "orig", None) or cause).strip().split("\n")[0]
            state = str(getattr(getattr(cause, "orig", None), "sqlstate", None) or "")
            if state == "53100" or "disk is full" in said:
                raise StorageError(
                    f"storage: no space is left for {self._where}; nothing that is finished is lost: when "
                    "there is space, the same command continues"
                ) from error
            lost = isinstance(cause, DBAPIError) and cause.connection_invalidated
            away = lost or isinstance(cause, OperationalError | InterfaceError)
            if away and not self._where.startswith("sqlite") and not state.startswith(_LASTING):
                raise _AwayError(f"storage: {self._where} does not answer ({said})") from error
            raise StorageError(
                f"storage: {self._where} cannot be used ({said}); nothing that is finished is lost: when "
                "that is mended, the same command continues"
            ) from error


class _AwayError(StorageError):
    """The server does not answer, and may be back."""


def without_password(url: str) -> str:
    """The URL for files and messages."""
    return make_url(url).set(password=None).render_as_string()
