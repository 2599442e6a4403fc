"""The reaction of a search to a database that does not answer, or has no space left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from dynnas.errors import StorageError
from dynnas.progress import Progress
from dynnas.search.storage.interrupts import check_sigint, defer_sigint
from dynnas.search.storage.urls import without_password

RETRY_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0

# Classes of SQLSTATE that waiting does not mend: no privileges, no such database, no space or memory.
_LASTING = ("28", "3D", "42", "53")

Result = TypeVar("Result")


class Retry:
    """Repeats a step of a search while the database's server is away; other errors end the search.

    While a step runs, Ctrl-C waits: a connection that is cut in the middle of a statement stays locked.

    Args:
        url: of the database; None for one in memory, which is never away.
        progress: is told that the search waits.
        check_lock: called before a step is tried again; raises if another process has the study by then.
        seconds: how long the server may be away.
    """

    def __init__(
        self,
        url: URL | None = None,
        progress: Progress | None = None,
        check_lock: Callable[[], None] = lambda: None,
        seconds: float = RETRY_SECONDS,
    ) -> None:
        self._url = url
        self._progress = progress or Progress()
        self._check_lock = check_lock
        self._seconds = seconds

    def __call__(self, step: Callable[[bool], Result]) -> Result:
        """Return the result of `step`.

        Its argument says whether an earlier try may have done some or all of it.

        Raises:
            StorageError: the database cannot be reached or written.
        """
        began: float | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                with defer_sigint(), storage_errors(self._url):
                    if began is not None:
                        self._check_lock()
                    return step(began is not None)
            except _AwayError as error:
                now = time.monotonic()
                if began is None:
                    began = now
                    self._progress.message(f"{error}; trying again for {self._seconds:g} seconds")
                if now - began >= self._seconds:
                    raise StorageError(
                        f"{error}, for {self._seconds:g} seconds now; nothing that is finished is lost: when "
                        "it is back, the same command continues"
                    ) from error.__cause__
                check_sigint()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)


@contextmanager
def storage_errors(url: URL | None) -> Iterator[None]:
    """Turn errors of the database at `url` into one message."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        where = without_password(url) if url else "the database"
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        said = str(getattr(cause, "orig", None) or cause).strip().split("\n")[0]
        state = str(getattr(getattr(cause, "orig", None), "sqlstate", None) or "")
        if state == "53100" or "disk is full" in said:
            raise StorageError(
                f"storage: no space is left for {where}; nothing that is finished is lost: when "
                "there is space, the same command continues"
            ) from error
        lost = isinstance(cause, DBAPIError) and cause.connection_invalidated
        away = lost or isinstance(cause, OperationalError | InterfaceError)
        served = url is not None and url.get_backend_name() != "sqlite"
        if away and served and not state.startswith(_LASTING):
            raise _AwayError(f"storage: {where} does not answer ({said})") from error
        raise StorageError(
            f"storage: {where} cannot be used ({said}); nothing that is finished is lost: when "
            "that is mended, the same command continues"
        ) from error


class _AwayError(StorageError):
    """Raised when the server does not answer, and may be back."""
