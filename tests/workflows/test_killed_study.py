"""kill -9 during the training and during the search of a whole study: the same call goes on."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.small_study import small_space

import dynnas
from dynnas.workflows.run import run_study

CHILD = """
import sys
from contextlib import contextmanager
from pathlib import Path
import torch
torch.set_num_threads(1)
import dynnas.training.train_supernet
from dynnas.progress import Progress, Task
from dynnas.workflows.run import run_study
from support.small_study import small_space

dynnas.training.checkpoint.CheckpointTimer.due = lambda timer: True

class Lines(Progress):
    @contextmanager
    def task(self, name, total, done=0):
        yield Line(name, done)

class Line(Task):
    def __init__(self, name, done):
        self.name, self.done = name, done

    def advance(self, steps=1, note=""):
        self.done += steps
        print(self.name, self.done, flush=True)

folder = Path({folder!r})
run_study(small_space(folder.parent), folder=folder, progress=Lines())
"""


def run_until(line: str, folder: Path) -> list[str]:
    """Run the study in a process that is killed after it printed `line`; returns all it printed till then."""
    script = CHILD.format(folder=str(folder))
    lines: list[str] = []
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not lines or lines[-1] != line:
            lines.append(process.stdout.readline().strip())
            assert lines[-1], "the study ended before it was killed"
        process.kill()
    return lines


@pytest.mark.slow
def test_killed_study_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    assert run_until("training 20", folder)[0] == "training 1"
    resumed = run_until("search 4", folder)
    # From a checkpoint of some steps before, which may be many on a busy machine, not from the start.
    assert 1 < int(resumed[0].removeprefix("training ")) <= 21
    before = dynnas.open_study(folder).candidates
    assert len(before) >= 4

    study = run_study(small_space(tmp_path), folder=folder)

    assert study.candidates[: len(before)] == before
    assert len(study.candidates) == 10
    assert study.finished
    straight = run_study(
        small_space(tmp_path, search={"trials": 4, "controls": False}), folder=tmp_path / "straight"
    )
    assert study.supernet.digest() == straight.supernet.digest()
    assert [m.key for m in study.candidates[:4]] == [m.key for m in straight.candidates]
