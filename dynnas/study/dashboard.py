"""The trials of a study for the Optuna dashboard, with units, notes and files made when they are read.

What is added is made from a trial when the dashboard asks for it: nothing is written, so that a running
search is not held up and studies of any age have it.
"""

from __future__ import annotations

import io
import json
import mimetypes
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from dynnas.pareto.front import ScoredArchitecture
from dynnas.samplers.trials import REJECTED, architecture_of, metrics_of
from dynnas.search.storage.retry import storage_errors
from dynnas.search.storage.storage import connection_pool, opening_errors
from dynnas.search.storage.urls import parse_url
from dynnas.space.architecture import Architecture
from dynnas.study.study import Study

METRIC_NAMES = "study:metric_names"
_FRESH = 2.0
"""Seconds for which a reading of the trials counts as fresh."""

Describe = Callable[[ScoredArchitecture, str], str]
"""A function that describes a candidate in Markdown, with the reason if it was rejected."""

Files = Mapping[str, Callable[[Architecture], str]]
"""A function that makes the texts of files about an architecture, by the files' names."""


class DashboardStorage(RDBStorage):
    """A study's storage, with units at its objectives, and a note and files at every trial.

    Where a reader of the dashboard has written a note, it stands in the place of ours.
    """

    def __init__(self, study: Study, labels: list[str], describe: Describe, files: Files) -> None:
        """Open the storage of `study`; `labels` are the names of its objectives."""
        url = parse_url(study.storage)
        with storage_errors(url), opening_errors(url):
            super().__init__(
                url.render_as_string(hide_password=False), engine_kwargs={"pool": connection_pool(url)}
            )
        self._study, self._labels, self._describe, self._files = study, labels, describe, files
        self._id = self.get_study_id_from_name(study.record.name)
        self._made: dict[int, dict[str, Any]] = {}
        self._read_at = -_FRESH
        self._reading = threading.Lock()

    def get_all_studies(self) -> list[Any]:
        """Return the stored studies, with the additions for the dashboard."""
        studies = super().get_all_studies()
        for study in studies:
            if study.study_name == self._study.record.name:
                study.system_attrs = self._with_additions(study.system_attrs)
        return studies

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the stored attributes, with the additions for the dashboard."""
        stored = super().get_study_system_attrs(study_id)
        return self._with_additions(stored) if study_id == self._id else stored

    def _with_additions(self, stored: dict[str, Any]) -> dict[str, Any]:
        with self._reading:
            if time.monotonic() - self._read_at >= _FRESH:
                for trial in self.get_all_trials(self._id, deepcopy=False):
                    if trial.number not in self._made and trial.state.is_finished():
                        self._made[trial.number] = self._of_trial(trial)
                self._read_at = time.monotonic()
            made = {name: value for trial in self._made.values() for name, value in trial.items()}
        return {**made, **stored, METRIC_NAMES: self._labels}

    def _of_trial(self, trial: FrozenTrial) -> dict[str, Any]:
        candidate = self.candidate(trial)
        if candidate is None:
            return {}
        # The dashboard names notes and files by the id of a trial in the database.
        number = self.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        rejected = str(trial.user_attrs.get(REJECTED, ""))
        additions: dict[str, Any] = {
            f"dashboard:{number}:note_ver": 0,
            f"dashboard:{number}:note_str:0": self._describe(candidate, rejected),
        }
        for place, name in enumerate(self._files):
            identity = f"{number:08x}-{place:x}"
            additions[f"dashboard:artifacts:{number}:{identity}"] = json.dumps(
                {
                    "artifact_id": identity,
                    "filename": name,
                    "mimetype": mimetypes.guess_type(name)[0] or "text/plain",
                    "encoding": None,
                }
            )
        return additions

    def candidate(self, trial: FrozenTrial) -> ScoredArchitecture | None:
        """Return the candidate of a trial; None for a trial without an architecture."""
        architecture = architecture_of(trial, self._study.space)
        if architecture is None:
            return None
        return ScoredArchitecture(architecture, metrics_of(trial, self._study.goal), trial.number)

    def file(self, identity: str) -> str:
        """Return the text of a file by the name under which `get_study_system_attrs` lists it.

        Raises:
            ArtifactNotFound: there is none.
        """
        number, _, place = identity.partition("-")
        try:
            candidate = self.candidate(self.get_trial(int(number, 16)))
            make = list(self._files.values())[int(place, 16)]
        except (KeyError, ValueError, IndexError) as error:
            raise ArtifactNotFound(f"there is no file {identity}") from error
        if candidate is None:
            raise ArtifactNotFound(f"there is no file {identity}")
        return make(candidate.architecture)


class MadeFiles:
    """The files of an `DashboardStorage` as an artifact store, which can only be read."""

    def __init__(self, storage: DashboardStorage) -> None:
        self._storage = storage

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return the file, which is made now."""
        return io.BytesIO(self._storage.file(artifact_id).encode())

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refuse to write: there is no place for a file."""
        raise ArtifactNotFound("this dashboard keeps no files; put them beside the study")

    def remove(self, artifact_id: str) -> None:
        """Refuse to remove: there is nothing to remove."""
        raise ArtifactNotFound("these files are made from the trials, and cannot be removed")
