"""The Optuna studies in a storage: creation, check, opening and deletion."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from dynnas.errors import StudyError
from dynnas.pareto.objectives import Objective
from dynnas.progress import Progress
from dynnas.samplers.architecture import distribution_of
from dynnas.samplers.trials import KEY
from dynnas.search.storage.storage import open_storage, search_storage
from dynnas.search.storage.urls import parse_url, sqlite_file
from dynnas.space.space import Space

# User attributes of a study.
MADE_WITH = "made_with"
GENES = "genes"

MOST_GENES = 5
_NOTHING = object()


def open_trials(
    storage: BaseStorage,
    name: str,
    space: Space,
    objectives: tuple[Objective, ...],
    sampler: BaseSampler,
    facts: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """Return the Optuna study of that name, and create it if it is not there.

    A study is recognised by all that its numbers depend on. One that others have made, such as Ray Tune, says
    nothing of that, and is taken over.

    Args:
        storage: of the study.
        name: of the study.
        space: what is searched.
        objectives: of the trials' values, in this order.
        sampler: proposes architectures.
        facts: what else the numbers depend on, by name, as JSON knows it; what evaluates, data, settings.

    Raises:
        StudyError: there is one for something else, and it says what differs; or one of its trials, made by
            others, has other values for a gene.
    """
    here = {
        "space": space.digest,
        "objectives": {objective.name: objective.direction for objective in objectives},
        **json.loads(json.dumps(facts or {})),
    }
    genes = {gene.name: list(gene.values) for gene in space.genes}
    with quiet_optuna():
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[objective.direction for objective in objectives],
            sampler=sampler,
            load_if_exists=True,
        )
        there = study.user_attrs.get(MADE_WITH)
        different = differences(here, there) if there else []
        if there and here["space"] != there["space"]:
            different += gene_differences(genes, study.user_attrs[GENES])
        if different:
            raise StudyError(
                f"study {name!r}: the storage holds one that was made with something else:\n  "
                + "\n  ".join(different)
                + "\nuse another name or another storage"
            )
        if not there:
            _check_study_of_others(study, objectives)
        _check_trials_of_others(study, space)
        study.set_metric_names([objective.name for objective in objectives])
        if not there:
            study.set_user_attr(GENES, genes)
            study.set_user_attr(MADE_WITH, here)
    return study


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return a line for every fact that differs between a study and the one that was made before."""

    def text(facts: Mapping[str, Any], name: str) -> str:
        return str(facts[name]) if name in facts else "not given"

    return [
        f"{name} is {text(here, name)}, was {text(there, name)}"
        for name in {**here, **there}
        if here.get(name, _NOTHING) != there.get(name, _NOTHING)
    ]


def gene_differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return lines for the first genes in which two spaces differ; none where only the blocks differ."""
    lines = differences(here, there)
    more = [f"and {len(lines) - MOST_GENES} more genes"] if len(lines) > MOST_GENES else []
    return [f"gene {line}" for line in lines[:MOST_GENES]] + more


def _check_study_of_others(study: optuna.Study, objectives: tuple[Objective, ...]) -> None:
    """Check that a study which dynnas has not made has as many objectives, in the same directions."""
    here = [objective.direction for objective in objectives]
    there = [direction.name.lower() for direction in study.directions]
    if here != there:
        raise StudyError(
            f"study {study.study_name!r}: was not made by dynnas, and has the directions {', '.join(there)}; "
            f"here they are {', '.join(here)}; use another name or another storage"
        )


def _check_trials_of_others(study: optuna.Study, space: Space) -> None:
    """Check that trials which dynnas has not made have the genes' values: Optuna refuses others later."""
    distributions = {gene.name: distribution_of(gene) for gene in space.choices}
    for trial in study.get_trials(deepcopy=False):
        if KEY in trial.user_attrs:
            continue
        for name in trial.distributions.keys() & distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[name], distributions[name])
            except ValueError as error:
                raise StudyError(
                    f"study {study.study_name!r}: trial {trial.number} was not made by dynnas, and its "
                    f"parameter {name!r} has the distribution {trial.distributions[name]}; the space's is "
                    f"{distributions[name]}; use another name or another storage"
                ) from error


def load_trials(storage: str | BaseStorage, name: str) -> optuna.Study | None:
    """Return the Optuna study of that name for reading, at a URL or in a storage; None if there is none."""
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
def quiet_optuna(level: int = optuna.logging.WARNING) -> Iterator[None]:
    """Keep Optuna from logging what is below `level`, and from warning of what is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
