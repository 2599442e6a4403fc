"""Where studies are kept: any SQLAlchemy database, with SQLite tuned for many small commits."""

from __future__ import annotations

import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
import sqlalchemy
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from dynnas.errors import StudyError
from dynnas.files import HeldError, locked_or_refused
from dynnas.pareto.objectives import Objective
from dynnas.progress import Progress
from dynnas.search.storage.ledger import Ledger
from dynnas.search.storage.patience import Patience, without_password
from dynnas.space.space import Space

_SQLITE = "sqlite:///"


def sqlite_url(path: Path) -> str:
    """The storage URL of an SQLite file."""
    return f"{_SQLITE}{path.resolve()}"


def open_storage(url: str | None) -> BaseStorage:
    """The storage at an SQLAlchemy URL, for reading and for single writes; in memory if None.

    Raises:
        StudyError: the database cannot be opened.
    """
    if url is None:
        return InMemoryStorage()
    with Patience(_checked(url), Progress()).in_words():
        return _open(url)


@contextmanager
def driving_storage(
    url: str | None, name: str, progress: Progress, *, locked: bool = False
) -> Iterator[BaseStorage]:
    """The storage for the only process that searches the study `name`; in memory if `url` is None.

    An SQLite file is locked by a file beside it. On PostgreSQL the connection itself holds a lock, which
    ends with the process, however that ends, on whichever machine. Of other databases, only the processes of
    one machine are kept apart.

    Args:
        url: of the database.
        name: of the study.
        progress: is told where the database has to be waited for.
        locked: whether the caller has seen to it that no other process searches the study.

    Raises:
        StudyError: the database cannot be opened, or another process searches the study.
    """
    if url is None:
        yield InMemoryStorage()
        return
    what = f"study {name!r}"
    locked |= url.startswith("postgresql")
    with nullcontext() if locked else only_driver(lock_path(url, name), what):
        patience = Patience(_checked(url), progress)
        with patience.in_words():
            backend = _open(url, LockedConnection(name, what).take)
        try:
            yield Ledger(backend, patience)
        finally:
            backend.engine.dispose()


def _open(url: str, on_connect: Callable[[Any], None] | None = None) -> RDBStorage:
    """A database with Optuna's tables.

    Args:
        url: of the database.
        on_connect: is given every new connection to PostgreSQL; with it, there is only one at a time.
    """
    sqlite = url.startswith("sqlite:")
    engine: dict[str, Any] = {"connect_args": {"timeout": 60}} if sqlite else {"poolclass": NullPool}
    try:
        with _one_at_a_time(url) if url.startswith("postgresql") else nullcontext():
            storage = RDBStorage(url, engine_kwargs=engine)
    except (ImportError, ValueError, sqlalchemy.exc.ArgumentError) as error:
        raise _cannot_open(url, error) from error
    # Connections that were opened before the listener was there would stay slow, or without lock.
    storage.engine.dispose()
    if sqlite:
        sqlalchemy.event.listen(storage.engine, "connect", lambda connection, _: _tune_sqlite(connection))
    elif on_connect and url.startswith("postgresql"):
        # Optuna makes its tables with several connections at a time, and needs one after that.
        storage.engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0)
        storage.scoped_session = scoped_session(sessionmaker(bind=storage.engine))
        sqlalchemy.event.listen(storage.engine, "connect", lambda connection, _: on_connect(connection))
        storage.engine.connect().close()
    return storage


@contextmanager
def _one_at_a_time(url: str) -> Iterator[None]:
    """Make nobody fail who finds the tables half made."""
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _lock_key("tables")})
        yield


def _lock_key(name: str) -> int:
    """PostgreSQL numbers its locks."""
    digest = hashlib.sha256(f"dynnas {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _tune_sqlite(connection: Any) -> None:
    """Five times faster commits than the default; only a power cut, not a kill, can lose the last of them."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


@dataclass(frozen=True)
class LockedConnection:
    """A lock of PostgreSQL that lives as long as its connection.

    Attributes:
        name: of the study.
        what: the study, as the message calls it.
    """

    name: str
    what: str

    # Until the server has noticed that the process before is gone.
    _SECONDS: ClassVar[float] = 3.0

    def take(self, connection: Any) -> None:
        """Take the lock on a new connection.

        Raises:
            StudyError: another live process has it.
        """
        number = _lock_key(f"study {self.name}")
        end = time.monotonic() + self._SECONDS
        cursor = connection.cursor()
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (number,))
            (taken,) = cursor.fetchone()
            connection.commit()
            if taken:
                break
            if time.monotonic() > end:
                connection.close()
                raise StudyError(
                    f"{self.what} is being searched by another process on this database; wait for it or use "
                    "another name"
                )
            time.sleep(0.2)
        cursor.close()


def open_trials(
    storage: BaseStorage, name: str, space: Space, objectives: tuple[Objective, ...], sampler: BaseSampler
) -> optuna.Study:
    """The Optuna study of that name, made if it is not there.

    Raises:
        StudyError: there is one for another space or other objectives.
    """
    wanted = {
        "space": space.digest,
        "objectives": {objective.name: objective.direction for objective in objectives},
    }
    with _quiet_optuna():
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[objective.direction for objective in objectives],
            sampler=sampler,
            load_if_exists=True,
        )
        held = {what: study.user_attrs[what] for what in wanted if what in study.user_attrs}
        if held and held != wanted:
            different = " and ".join(what for what in wanted if held.get(what) != wanted[what])
            raise StudyError(
                f"study {name!r}: the storage holds one with another {different}; "
                "use another name or another storage"
            )
        study.set_metric_names([objective.name for objective in objectives])
        for what, value in wanted.items():
            study.set_user_attr(what, value)
    return study


def write_down(study: optuna.Study) -> None:
    """See that what was said of running trials is in the database, whatever becomes of this process."""
    if isinstance(study._storage, Ledger):
        study._storage.write_down()


def load_trials(url: str | BaseStorage, name: str) -> optuna.Study | None:
    """The Optuna study of that name for reading, at a URL or in a storage; None if there is none."""
    if isinstance(url, str) and url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        return None  # opening it would make the file
    try:
        storage = open_storage(url) if isinstance(url, str) else url
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def delete_trials(url: str, name: str) -> None:
    """Delete the Optuna study of that name, if there is one.

    Raises:
        StudyError: another process searches it.
    """
    if load_trials(url, name) is not None:
        with driving_storage(url, name, Progress()) as storage:
            optuna.delete_study(study_name=name, storage=storage)


def kept_url(url: str) -> str:
    """The URL as it may be kept in a file; the database's own means (such as ~/.pgpass) know the password.

    Raises:
        StudyError: it is no URL.
    """
    return without_password(_checked(url))


def _checked(url: str) -> str:
    """The URL, if it is one."""
    try:
        sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise _cannot_open(url, error) from error
    return url


def _cannot_open(url: str, error: Exception) -> StudyError:
    return StudyError(
        f"storage: cannot open {url!r} ({error}); give an SQLAlchemy URL such as sqlite:///study.db "
        "or postgresql+psycopg://user@host/database, with its driver installed"
    )


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging that a study was created, and from calling metric names experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def only_driver(lock: Path, what: str) -> Iterator[None]:
    """Hold `lock` while a search is driven; the system lets go of it when the process dies, however it dies.

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


def lock_path(url: str, name: str) -> Path:
    """The lock of study `name` at `url`: beside an SQLite file, else in this machine's temporary folder."""
    if url.startswith(_SQLITE):
        path = Path(url.removeprefix(_SQLITE))
        return path.with_name(f"{path.name}.lock")
    digest = hashlib.sha256(f"{url} {name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dynnas-{digest}.lock"
