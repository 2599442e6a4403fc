"""Looking at a search that goes on, perhaps in another process."""

import time
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from dynnas.search.storage.storage import open_storage


def trials_at(url: str, *states: TrialState) -> list[FrozenTrial]:
    """The trials of the study `grid` in a database, those in these states if any are given."""
    study = optuna.load_study(study_name="grid", storage=open_storage(url))
    return study.get_trials(states=states or None)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
