"""Locks that let only one process at a time search a study."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import URL, Connection
from sqlalchemy.pool import NullPool

from dynnas.errors import StudyError
from dynnas.files import HeldError, locked_or_refused
from dynnas.search.storage.urls import sqlite_file, without_password

# Until the server has noticed that the process before is gone.
_RELEASE_SECONDS = 3.0


@contextmanager
def study_lock(lock: Path, what: str) -> Iterator[None]:
    """Hold the file `lock` while a study is searched; the system releases it when the process dies.

    Args:
        what: the study, as the message calls it.

    Raises:
        StudyError: another live process holds it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked_or_refused(lock))
        except HeldError as error:
            raise StudyError(
                f"{what} is being searched by another process (id {error.owner}); wait for it or use another "
                "name"
            ) from error
        yield


def lock_path(url: URL, name: str) -> Path:
    """Return the lock file of study `name`: beside an SQLite file, else in the temporary folder."""
    file = sqlite_file(url)
    if file is not None:
        return file.with_name(f"{file.name}.lock")
    digest = hashlib.sha256(f"{without_password(url)} {name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dynnas-{digest}.lock"


class ServerLock:
    """A lock of PostgreSQL on a study, for all machines; it lasts as long as its connection.

    Args:
        url: of the database.
        name: of the study.
    """

    def __init__(self, url: URL, name: str) -> None:
        self._engine = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._name = name
        self._connection: Connection | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            StudyError: another live process holds it.
        """
        self._take()
        try:
            yield
        finally:
            if self._connection is not None:
                self._connection.close()

    def check(self) -> None:
        """Take the lock again, if its connection was lost.

        Raises:
            StudyError: another process has it by now.
            sqlalchemy.exc.OperationalError: the server is away.
        """
        if self._connection is not None:
            try:
                self._connection.exec_driver_sql("SELECT 1")
                return
            except sqlalchemy.exc.DBAPIError:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
        self._take()

    def _take(self) -> None:
        end = time.monotonic() + _RELEASE_SECONDS
        query = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
        with ExitStack() as failing:
            connection = failing.enter_context(self._engine.connect())
            while not connection.scalar(query, {"key": _lock_key(f"study {self._name}")}):
                if time.monotonic() > end:
                    raise StudyError(
                        f"study {self._name!r} is being searched by another process on this database; wait "
                        "for it or use another name"
                    )
                time.sleep(0.2)
            failing.pop_all()
        self._connection = connection


@contextmanager
def table_lock(url: URL) -> Iterator[None]:
    """Keep two processes from making Optuna's tables in PostgreSQL at the same time."""
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _lock_key("tables")})
        yield


def _lock_key(name: str) -> int:
    """Return the number of a lock: PostgreSQL numbers its locks."""
    digest = hashlib.sha256(f"dynnas {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
