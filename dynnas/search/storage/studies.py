"""The Optuna studies in a storage: made, recognised, opened and deleted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from dynnas.errors import StudyError
from dynnas.pareto.objectives import Objective
from dynnas.progress import Progress
from dynnas.search.storage.storage import open_storage, search_storage
from dynnas.search.storage.urls import parse_url, sqlite_file
from dynnas.space.space import Space


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


def load_trials(storage: str | BaseStorage, name: str) -> optuna.Study | None:
    """The Optuna study of that name for reading, at a URL or in a storage; None if there is none."""
    file = sqlite_file(parse_url(storage)) if isinstance(storage, str) else None
    if file is not None and not file.exists():
        return None  # opening it would make the file
    try:
        opened = open_storage(storage) if isinstance(storage, str) else storage
        return optuna.load_study(study_name=name, storage=opened)
    except KeyError:
        return None


def delete_trials(url: str, name: str) -> None:
    """Delete the Optuna study of that name, if there is one.

    Raises:
        StudyError: another process searches it.
    """
    if load_trials(url, name) is not None:
        with search_storage(url, name, Progress()) as held:
            optuna.delete_study(study_name=name, storage=held.storage)


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
