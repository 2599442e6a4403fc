"""kill -9 in the middle of a search: nothing finished is lost, the interrupted candidate is tried again."""

import subprocess
import sys
from pathlib import Path

from optuna.trial import TrialState
from support.searches import trials_at
from support.tables import Table, grid_space

import dynnas

SLOW_SEARCH = """
import sys, time
import dynnas
from support.tables import Table, grid_space

class Slow(Table):
    def stages(self, architecture):
        print("evaluating", flush=True)
        time.sleep(0.05)
        yield from super().stages(architecture)

dynnas.search(grid_space(), Slow(), trials=1000, population=8, storage={url!r})
"""


def test_killed_search_goes_on_as_it_would_have(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    script = SLOW_SEARCH.format(url=url)
    for evaluations in (4, 12):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(evaluations):
                assert process.stdout.readline() == b"evaluating\n"
            process.kill()
    before = trials_at(url, TrialState.COMPLETE)
    # The last of each run was cut short; the second run began with that of the first.
    assert len(before) == 3 + 11

    front = dynnas.search(grid_space(), Table(), trials=40, population=8, storage=url)

    after = trials_at(url, TrialState.COMPLETE)
    assert after[: len(before)] == before
    assert len(trials_at(url, TrialState.FAIL)) == 2
    assert not trials_at(url, TrialState.RUNNING, TrialState.WAITING)
    straight = f"sqlite:///{tmp_path / 'straight.db'}"
    expected = dynnas.search(grid_space(), Table(), trials=40, population=8, storage=straight)
    keys = [trial.user_attrs["key"] for trial in trials_at(straight, TrialState.COMPLETE)]
    assert [trial.user_attrs["key"] for trial in after] == keys
    assert [member.key for member in front] == [member.key for member in expected]
