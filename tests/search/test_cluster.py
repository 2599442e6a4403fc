"""Crews and trainings on a real Ray cluster on this machine, with kill -9 of actors and of the driver."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from support.tables import grid_space
from support.workers import Deadly, Slow

from dynnas.data.load import load_data
from dynnas.errors import MissingExtraError, StudyError
from dynnas.language.parser import parse_space
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.trials import KEY
from dynnas.search.workers.opening import open_cluster, open_pool
from dynnas.search.workers.pool import Job
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.space.moves import sample
from dynnas.supernet.staged import staged_supernet
from dynnas.training.checkpoint import read_checkpoint
from dynnas.training.start import train_supernet

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.timeout(600)  # processes of Ray take their time to start

# Or Ray gives its processes the lowest priority, and tests on a busy machine take minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

GOAL = Goal.of(("accuracy", "latency_ms"), {})


class Said(Progress):
    """Keeps the messages."""

    def __init__(self):
        self.texts = []

    def message(self, text):
        self.texts.append(text)


@pytest.fixture(scope="module")
def cluster():
    with open_cluster("local", 2) as cluster:
        yield cluster


def _grid(*values):
    return Architecture({f"x{index}": value for index, value in enumerate(values)})


def test_what_becomes_of_jobs(cluster):
    """One evaluates, one kills every worker that tries it, one fails, one is not available."""
    said = Said()
    with open_pool(Deadly(), GOAL, workers=2, cluster=cluster, progress=said) as pool:
        assert pool.size == 2
        jobs = [_grid(0, 0, 0, 3), _grid(1, 1, 0, 0), _grid(2, 2, 0, 0), _grid(3, 3, 0, 0)]
        job_ids = [pool.submit(Job("evaluate", architecture)) for architecture in jobs]
        answers = {found.job_id: found for found in (pool.collect() for _ in jobs)}
    fine, deadly, wrong, absent = (answers[job_id] for job_id in job_ids)
    assert fine.value[0][0] == {"latency_ms": 4.0}
    assert deadly.failure == "LostWorker: its worker died 3 times, the last: killed, or its machine is gone"
    assert wrong.failure == "ValueError: two twos"
    assert absent.value == ([], "no threes")
    assert not any(job.key in text for job in (jobs[0], *jobs[2:]) for text in said.texts)
    assert [text.rsplit(", ", 1)[1] for text in said.texts if jobs[1].key in text] == [
        "attempt 2 of 3",
        "attempt 3 of 3",
    ]


def test_a_killed_actors_job_is_done_by_another(cluster, tmp_path):
    notes = tmp_path / "notes"
    space, rng = grid_space(), random.Random(0)
    with open_pool(Slow(notes, 1.0), GOAL, workers=2, cluster=cluster) as pool:
        job_ids = [pool.submit(Job("evaluate", sample(space, rng))) for _ in range(8)]
        answers = [pool.collect(), pool.collect()]
        killed = int(notes.read_text().splitlines()[-1].split()[0])
        assert killed in pool.ids
        os.kill(killed, signal.SIGKILL)
        answers += [pool.collect() for _ in range(6)]
        assert killed not in pool.ids
    assert sorted(found.job_id for found in answers) == job_ids
    assert all(found.failure is None for found in answers)
    lines = notes.read_text().splitlines()
    assert len(lines) > 8, lines  # the interrupted one is there twice


TRAINED = """
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: [4, 8]}
stages: [{block: conv, depth: [1, 2], width: [8, 16], stride: 2, op: [static, condconv], experts: 2}]
head: {width: 16, dropout: 0.2}
"""
TRAIN = TrainSettings(epochs=1, batch=63, precision="float32", layout="channels_first")


@pytest.mark.slow
def test_training_on_the_cluster(cluster, tmp_path):
    """Two actors train what one process does, also when one of them is killed on the way."""
    import torch

    class Kill(Said):
        """Kills the second rank after the first step; the processes of idle workers have other names."""

        def task(self, name, total, done=0):
            return nullcontext(self)

        def advance(self, steps=1, note=""):
            ranks = _processes("ray::_Rank")
            assert len(ranks) == 2
            os.kill(ranks[1], signal.SIGKILL)
            self.advance = lambda steps=1, note="": None

    space, dataset = parse_space(TRAINED), load_data(DataSettings(train_images=320))

    def trained(folder, settings, **how):
        supernet = staged_supernet(space, channels=1, classes=10)
        train_supernet(supernet, dataset, settings, tmp_path / folder, **how)
        return supernet.state_dict()

    alone = trained("alone", TRAIN)
    two = replace(TRAIN, processes=2)
    kill = Kill()
    together = trained("two", two, launch=partial(cluster.train, progress=kill), progress=kill)
    assert len(kill.texts) == 1
    killed = (
        r"training: process \d of 2 was killed, or its machine is gone; it goes on from step 0 with 2 of 2"
    )
    assert re.match(killed, kill.texts[0])
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["checkpoint.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ranks_on_the_cluster_save_before_an_interrupted_driver_ends(cluster, tmp_path, number):
    class Interrupt(Progress):
        """Interrupts this process after the second step, long before a checkpoint is due."""

        def task(self, name, total, done=0):
            return nullcontext(self)

        def advance(self, steps=1, note=""):
            self.steps = getattr(self, "steps", 0) + steps
            if self.steps == 2:
                os.kill(os.getpid(), number)

    space, dataset = parse_space(TRAINED), load_data(DataSettings(train_images=320))
    settings = replace(TRAIN, epochs=2000, processes=2)
    ends = pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit)
    with ends as ended:
        train_supernet(
            staged_supernet(space, channels=1, classes=10),
            dataset,
            settings,
            tmp_path,
            launch=cluster.train,
            progress=Interrupt(),
        )
    assert getattr(ended.value, "code", None) == (143 if number == signal.SIGTERM else None)
    assert 2 <= read_checkpoint(tmp_path).step < 10_000
    deadline = time.monotonic() + 60
    while _processes("ray::_Rank"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _processes(name):
    """The ids of the processes whose command line begins with `name`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(name.encode()):
                found.append(int(entry.name))
        except OSError:  # gone meanwhile
            continue
    return sorted(found)


DRIVER = """
import sys
from pathlib import Path
from support.tables import grid_space
from support.workers import Slow
import dynnas

dynnas.search(
    grid_space(), Slow(Path(sys.argv[2]), 0.2), trials=20, sampler="random", workers=2, ray="local",
    storage=sys.argv[3], objectives=("accuracy", "latency_ms"),
)
"""


@pytest.mark.slow
def test_a_killed_driver_goes_on_and_its_actors_end_with_it(tmp_path):
    notes, url = tmp_path / "notes", f"sqlite:///{tmp_path / 'study.db'}"
    command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(notes), url]

    def trials():
        (study,) = optuna.get_all_study_names(url)
        found = optuna.load_study(study_name=study, storage=url).trials
        return [trial for trial in found if trial.state == optuna.trial.TrialState.COMPLETE]

    def finished():
        return {trial.number: trial.values for trial in trials()}

    with subprocess.Popen(command) as driver:
        while not notes.exists() or len(notes.read_text().splitlines()) < 8:
            assert driver.poll() is None
            time.sleep(0.05)
        driver.kill()
    before = finished()
    assert before
    actors = {int(line.split()[0]) for line in notes.read_text().splitlines()}
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{actor}").exists() for actor in actors):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    ran = subprocess.run(command, capture_output=True, text=True, check=True)

    after = finished()
    assert len(after) == 20
    assert {number: after[number] for number in before} == before
    assert len({trial.user_attrs[KEY] for trial in trials()}) == 20
    assert (ran.stdout, ran.stderr) == ("", "")


def test_a_cluster_that_is_not_there_is_one_message():
    script = "from dynnas.search.workers.opening import open_cluster\nwith open_cluster('127.0.0.1:9'): pass"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "StudyError: --ray: no cluster at 127.0.0.1:9" in ran.stderr.splitlines()[-1]


def test_a_cluster_that_is_too_small_is_one_message(cluster):
    with pytest.raises(StudyError, match="64 actors are wanted, but the cluster has 2 processors"):
        cluster.pool(Deadly(), 64, Progress())


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dynnas\[ray\]'"), open_cluster("local"):
        pass
