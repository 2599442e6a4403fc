"""The storage of the one process that drives a study: answers from memory, writes a trial in three goes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from dynnas.errors import StorageError
from dynnas.search.storage.interrupts import uninterrupted
from dynnas.search.storage.patience import Patience

Result = TypeVar("Result")


@dataclass
class _Unwritten:
    """What was said of a running trial and is not in the database yet."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    user: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    anew: bool = False  # whether some of it is there already, with another value


class Ledger(BaseStorage):
    """An Optuna storage over another, in the same tables, for a process that alone writes to its studies.

    A trial is written when it is begun, when `write_down` is called, and together with its result. Anybody
    may read along in the database. Where a commit may or may not have been done when the server went away, it
    is done once. Where memory and database change together, Ctrl-C waits.
    """

    def __init__(self, backend: RDBStorage, patience: Patience) -> None:
        self._backend = backend
        self._patience = patience
        self._trials: dict[int, list[FrozenTrial]] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._unwritten: dict[int, _Unwritten] = {}
        self._directions: dict[int, list[StudyDirection]] = {}

    @uninterrupted()
    def write_down(self) -> None:
        """Write what was said of running trials."""
        for trial_id in tuple(self._unwritten):

            def write(session: Session, again: bool, trial_id: int = trial_id) -> None:
                self._write(session, trial_id, again)

            self._transaction(trial_id, write)
            del self._unwritten[trial_id]

    # Studies: as they are, but patiently.

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._patience(lambda _: self._backend.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        self._patience(lambda _: self._backend.delete_study(study_id))
        for trial in self._trials.pop(study_id, ()):
            self._places.pop(trial._trial_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._patience(lambda _: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._patience(lambda _: self._backend.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._patience(lambda _: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._patience(lambda _: self._backend.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        if study_id not in self._directions:
            self._directions[study_id] = self._patience(
                lambda _: self._backend.get_study_directions(study_id)
            )
        return self._directions[study_id]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._patience(lambda _: self._backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._patience(lambda _: self._backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._patience(lambda _: self._backend.get_all_studies())

    # Trials: from memory.

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self._trial(trial_id)
        if trial.state.is_finished():
            return trial
        # Optuna's trials write into what they are given.
        trial = copy.copy(trial)
        for name in ("params", "distributions", "user_attrs", "system_attrs"):
            setattr(trial, name, dict(getattr(trial, name)))
        return trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._known(study_id) if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        trials = self._known(study_id)
        if trial_number >= len(trials):
            raise KeyError(f"study {study_id} has no trial {trial_number}")
        return trials[trial_number]._trial_id

    @uninterrupted()
    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        known = self._known(study_id)
        last = known[-1]._trial_id if known else 0

        def create(session: Session, again: bool) -> FrozenTrial:
            of_study = select(models.TrialModel).where(models.TrialModel.study_id == study_id)
            row = None
            if again:  # it may have been created just before the server went away
                row = session.scalars(of_study.where(models.TrialModel.trial_id > last)).one_or_none()
            if row is None:
                row = self._backend._get_prepared_new_trial(study_id, template_trial, session)
                session.flush()
            if template_trial is None:
                return _begun(row)
            return self._backend._build_frozen_trial_from_trial_model(row)

        trial = self._transaction(study_id, create, creating=True)
        self._learn(study_id, trial)
        return trial._trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        trial = self._open(trial_id)
        value = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: value}
        trial.distributions = {**trial.distributions, param_name: distribution}
        self._waiting(trial).params[param_name] = (param_value_internal, distribution)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._open(trial_id)
        trial.user_attrs = self._noted(trial, trial.user_attrs, self._waiting(trial).user, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._open(trial_id)
        trial.system_attrs = self._noted(trial, trial.system_attrs, self._waiting(trial).system, key, value)

    def _noted(
        self, trial: FrozenTrial, attrs: dict[str, Any], unwritten: dict[str, str], key: str, value: Any
    ) -> dict[str, Any]:
        """`attrs` with one more, which is also to be written."""
        text = json.dumps(value)
        self._waiting(trial).anew |= key in attrs and key not in unwritten
        unwritten[key] = text
        return {**attrs, key: json.loads(text)}

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        raise NotImplementedError("searches have no intermediate values")

    @uninterrupted()
    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        trial = copy.copy(self._trial(trial_id))
        self.check_trial_is_updatable(trial_id, trial.state)
        if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
            return False
        trial.state = state
        if values is not None:
            trial.values = [float(value) for value in values]
        if state == TrialState.RUNNING:
            trial.datetime_start = datetime.now()
        if state.is_finished():
            trial.datetime_complete = datetime.now()

        def tell(session: Session, again: bool) -> None:
            row = session.get_one(models.TrialModel, trial_id)
            if row.state == state:  # done just before the server went away
                return
            self._write(session, trial_id, again)
            _write_values(session, trial)
            row.state = state
            row.datetime_start, row.datetime_complete = trial.datetime_start, trial.datetime_complete

        self._transaction(trial_id, tell)
        self._unwritten.pop(trial_id, None)
        self._set(trial)
        return True

    def _known(self, study_id: int) -> list[FrozenTrial]:
        """All trials of a study, by number; not to be changed."""
        if study_id not in self._trials:
            found = self._patience(lambda _: self._backend._get_trials(study_id, None, set(), -1))
            self._trials[study_id] = []
            for trial in found:
                self._learn(study_id, trial)
        return self._trials[study_id]

    def _learn(self, study_id: int, trial: FrozenTrial) -> None:
        trials = self._trials[study_id]
        if trial.number != len(trials):
            raise StorageError(
                f"storage: trial {len(trials)} of study {study_id} is missing; take another name"
            )
        self._places[trial._trial_id] = study_id, trial.number
        trials.append(trial)

    def _trial(self, trial_id: int) -> FrozenTrial:
        study_id, number = self._places[trial_id]
        return self._trials[study_id][number]

    def _set(self, trial: FrozenTrial) -> None:
        """Put it in the place of the same trial; who has got that one keeps it as it was."""
        study_id, number = self._places[trial._trial_id]
        self._trials[study_id][number] = trial

    def _open(self, trial_id: int) -> FrozenTrial:
        """A trial to be changed."""
        trial = copy.copy(self._trial(trial_id))
        self.check_trial_is_updatable(trial_id, trial.state)
        self._set(trial)
        return trial

    def _waiting(self, trial: FrozenTrial) -> _Unwritten:
        return self._unwritten.setdefault(trial._trial_id, _Unwritten())

    def _transaction(
        self, about: int, work: Callable[[Session, bool], Result], creating: bool = False
    ) -> Result:
        """Do all of `work` or nothing, once.

        Args:
            about: the id of a trial; of a study, if a trial is created.
            work: gets the session, and whether it may have been committed already.
            creating: whether it makes a trial.
        """
        study_id = about if creating else self._places[about][0]

        def attempt(again: bool) -> Result:
            with Session(self._backend.engine, expire_on_commit=False) as session, session.begin():
                if again:
                    self._see_that_nobody_wrote(session, study_id, creating)
                return work(session, again)

        return self._patience(attempt)

    def _see_that_nobody_wrote(self, session: Session, study_id: int, creating: bool) -> None:
        """While the server was away, so was the lock."""
        count = select(func.count()).where(models.TrialModel.study_id == study_id)
        if (session.scalar(count) or 0) > len(self._trials[study_id]) + creating:
            raise StorageError(
                "storage: while the database was away, another process has searched this study; the same "
                "command continues when that has ended"
            )

    def _write(self, session: Session, trial_id: int, again: bool) -> None:
        """Write all that is known of a trial and not written; where it is tried again, it may be."""
        unwritten = self._unwritten.get(trial_id, _Unwritten())
        anew = again or unwritten.anew
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution_to_json(distribution),
            }
            for name, (value, distribution) in unwritten.params.items()
        ]
        _insert(session, models.TrialParamModel, models.TrialParamModel.param_name, params, anew)
        for model, texts in (
            (models.TrialUserAttributeModel, unwritten.user),
            (models.TrialSystemAttributeModel, unwritten.system),
        ):
            rows = [{"trial_id": trial_id, "key": key, "value_json": text} for key, text in texts.items()]
            _insert(session, model, model.key, rows, anew)


def _begun(row: Any) -> FrozenTrial:
    """A trial of which nothing is known yet."""
    assert row.number is not None
    return FrozenTrial(
        number=row.number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=row.datetime_start,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=row.trial_id,
    )


def _write_values(session: Session, trial: FrozenTrial) -> None:
    rows = []
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        rows.append(
            {"trial_id": trial._trial_id, "objective": objective, "value": stored, "value_type": kind}
        )
    _insert(session, models.TrialValueModel, models.TrialValueModel.objective, rows, anew=False)


def _insert(session: Session, model: Any, name: Any, rows: list[dict[str, Any]], anew: bool) -> None:
    """Write `rows` of one trial; with `anew`, in the place of those that have the same names."""
    if not rows:
        return
    if anew:
        names = [row[name.key] for row in rows]
        session.execute(delete(model).where(model.trial_id == rows[0]["trial_id"], name.in_(names)))
    session.execute(insert(model.__table__), rows)
