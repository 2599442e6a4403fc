"""The storage of trials: Optuna's own on any SQLAlchemy database, with SQLite in WAL mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy import create_pool_from_url, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, Pool, QueuePool

from dynnas.errors import StudyError
from dynnas.progress import Progress
from dynnas.search.storage.locks import ServerLock, lock_path, study_lock, table_lock
from dynnas.search.storage.retry import RETRY_SECONDS, Retry, storage_errors
from dynnas.search.storage.urls import cannot_open, parse_url, without_password

_BUSY_SECONDS = 60


@dataclass(frozen=True)
class SearchStorage:
    """The storage of the one process that searches a study.

    Attributes:
        storage: Optuna's.
        retry: calls a step of the search again while the database is away.
    """

    storage: BaseStorage
    retry: Retry = field(default_factory=Retry)


def open_storage(url: str | None) -> BaseStorage:
    """Return the storage at an SQLAlchemy URL, for reading and for single writes; in memory if None.

    Raises:
        StudyError: the database cannot be opened, or another version of Optuna has made it.
    """
    if url is None:
        return InMemoryStorage()
    parts = parse_url(url)
    with storage_errors(parts):
        return _open(parts, NullPool)[0]


@contextmanager
def search_storage(
    storage: str | BaseStorage | None,
    name: str,
    progress: Progress,
    *,
    locked: bool = False,
    retry_seconds: float = RETRY_SECONDS,
) -> Iterator[SearchStorage]:
    """Open the storage for the only process that searches the study `name`; an object is used as it is.

    A lock file beside it guards an SQLite file. On PostgreSQL a connection holds a lock, which ends with the
    process on whichever machine it runs. For other databases, only the processes of one machine exclude each
    other.

    Args:
        storage: URL of the database; None for memory.
        name: of the study.
        progress: is told when the search waits for the database.
        locked: whether the caller holds a lock on the study.
        retry_seconds: how long a database server may be away before the search ends.

    Raises:
        StudyError: the database cannot be opened, or another process searches the study.
    """
    if not isinstance(storage, str):
        yield SearchStorage(storage or InMemoryStorage())
        return
    parts = parse_url(storage)
    with ExitStack() as held:
        check_lock = _no_check
        if parts.get_backend_name() == "postgresql":
            lock = ServerLock(parts, name)
            with storage_errors(parts):
                held.enter_context(lock.held())
            check_lock = lock.check
        elif not locked:
            held.enter_context(study_lock(lock_path(parts, name), f"study {name!r}"))
        with storage_errors(parts):
            opened, pool = _open(parts, QueuePool)
        held.callback(pool.dispose)
        yield SearchStorage(opened, Retry(parts, progress, check_lock, retry_seconds))


def _no_check() -> None:
    """Check nothing: this lock cannot be lost while its process lives."""


def _open(url: URL, kind: type[Pool]) -> tuple[RDBStorage, Pool]:
    """Return a database with Optuna's tables, and the pool of its connections."""
    with opening_errors(url):
        pool = connection_pool(url, kind)
        postgresql = url.get_backend_name() == "postgresql"
        with table_lock(url) if postgresql else nullcontext():
            text = url.render_as_string(hide_password=False)
            return RDBStorage(text, engine_kwargs={"pool": pool}), pool


def connection_pool(url: URL, kind: type[Pool] = NullPool) -> Pool:
    """Return a pool of connections to the database at `url`; SQLite is in WAL mode.

    Args:
        url: of the database.
        kind: of the pool of a server's connections: with `NullPool` each is closed after its use.
    """
    if url.get_backend_name() != "sqlite":
        return create_pool_from_url(url, poolclass=kind, pool_pre_ping=True)
    wait = {} if "timeout" in url.query else {"timeout": _BUSY_SECONDS}
    pool = create_pool_from_url(url, connect_args=wait)
    event.listen(pool, "connect", lambda connection, _: _tune_sqlite(connection))
    return pool


@contextmanager
def opening_errors(url: URL) -> Iterator[None]:
    """Turn the errors of Optuna and SQLAlchemy at opening a database into one message.

    Raises:
        StudyError: the database cannot be opened, or another version of Optuna has made it.
    """
    try:
        yield
    except (ImportError, ValueError, ArgumentError) as error:
        raise cannot_open(without_password(url), error) from error
    except RuntimeError as error:  # its tables are those of another version of Optuna
        raise StudyError(
            f"storage: {without_password(url)} was made by another version of Optuna, and this is "
            f"{optuna.__version__}; if it is older, `optuna storage upgrade --storage URL` converts it, else "
            "install the version that made it, or give another --storage"
        ) from error


def _tune_sqlite(connection: Any) -> None:
    """Commit five times as fast as by default; a power cut, but no kill, can lose the last commits."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
