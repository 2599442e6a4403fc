"""Where studies are kept: any SQLAlchemy database, with SQLite tuned for many small commits."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from dynnas.errors import StudyError
from dynnas.search.goal import Objective
from dynnas.space import Space

_SQLITE = "sqlite:///"


def sqlite_url(path: Path) -> str:
    """The storage URL of an SQLite file."""
    return f"{_SQLITE}{path.resolve()}"


def open_storage(url: str | None) -> BaseStorage:
    """The storage at an SQLAlchemy URL; in memory if None.

    Raises:
        StudyError: the database cannot be opened.
    """
    if url is None:
        return InMemoryStorage()
    try:
        if not url.startswith("sqlite:"):
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    except (ImportError, ValueError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _cannot_open(url, error) from error
    sqlalchemy.event.listen(storage.engine, "connect", _tune_sqlite)
    # Connections that were opened before the listener was there would stay slow.
    storage.engine.dispose()
    return storage


def _cannot_open(url: str, error: Exception) -> StudyError:
    return StudyError(
        f"storage: cannot open {url!r} ({error}); give an SQLAlchemy URL such as sqlite:///study.db "
        "or postgresql://user@host/database, with its driver installed"
    )


def _tune_sqlite(connection: Any, record: Any) -> None:
    """Five times faster commits than the default; only a power cut, not a kill, can lose the last of them."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


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


def load_trials(url: str, name: str) -> optuna.Study | None:
    """The Optuna study of that name for reading; None if there is none."""
    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        return None  # opening it would make the file
    try:
        return optuna.load_study(study_name=name, storage=open_storage(url))
    except KeyError:
        return None


def delete_trials(url: str, name: str) -> None:
    """Delete the Optuna study of that name, if there is one."""
    if load_trials(url, name) is not None:
        optuna.delete_study(study_name=name, storage=open_storage(url))


def without_password(url: str) -> str:
    """The URL as it may be kept in a file; the database's own means (such as ~/.pgpass) know the password.

    Raises:
        StudyError: it is no URL.
    """
    try:
        return sqlalchemy.engine.make_url(url).set(password=None).render_as_string()
    except sqlalchemy.exc.ArgumentError as error:
        raise _cannot_open(url, error) from error


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
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StudyError(
                f"{what} is being searched by another process (id {owner}); wait for it or use another name"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_path(url: str, name: str) -> Path:
    """The lock of study `name` at `url`: beside an SQLite file, else in this machine's temporary folder."""
    if url.startswith(_SQLITE):
        path = Path(url.removeprefix(_SQLITE))
        return path.with_name(f"{path.name}.lock")
    digest = hashlib.sha256(f"{url} {name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dynnas-{digest}.lock"
