"""A training on a simulated cluster of three machines: one is lost, one comes, the driver is killed."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from dynnas.data.load import load_data
from dynnas.errors import TrainingError
from dynnas.language.parser import parse_space
from dynnas.progress import Progress
from dynnas.search.workers.opening import open_cluster
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.supernet.staged import staged_supernet
from dynnas.training.checkpoint import read_checkpoint
from dynnas.training.start import train_supernet

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

SPACE = """
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: [4, 8]}
stages: [{block: conv, depth: [1, 2], width: [8, 16], stride: 2, op: [static, condconv], experts: 2}]
head: {width: 16, dropout: 0.2}
"""
TRAIN = TrainSettings(epochs=12, batch=63, lr=0.05, precision="float32", layout="channels_first")
STEPS = 60


@contextmanager
def machines():
    """Three machines of one processor each."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    found.wait_for_nodes()
    yield found
    found.shutdown()


def alone(function, *arguments):
    """Start a function of this file in a process of its own: Ray reads its environment once in a process."""
    script = (
        f"import sys; from training import {Path(__file__).stem} as f; f.{function.__name__}(*sys.argv[1:])"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    # Whatever token the user has, these machines know none.
    environment = {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=environment)


def train(folder, settings=TRAIN, augment="support.slow_images:same", **how):
    dataset = load_data(DataSettings(train_images=320, augment=augment))
    supernet = staged_supernet(parse_space(SPACE), channels=1, classes=10)
    train_supernet(supernet, dataset, settings, folder, **how)
    return supernet.state_dict()


class Events(Progress):
    """Does something after some steps, and keeps the messages and the number of steps."""

    def __init__(self, **events):
        self.texts, self.steps = [], 0
        self._events = {int(name.removeprefix("at_")): event for name, event in events.items()}

    def message(self, text):
        self.texts.append(text)

    def task(self, name, total, done=0):
        return nullcontext(self)

    def advance(self, steps=1, note=""):
        self.steps += steps
        if event := self._events.get(self.steps):
            event()


def lost_and_come(folder):
    with machines() as three:
        lost = next(iter(three.worker_nodes))
        progress = Events(
            at_15=lambda: three.remove_node(lost, allow_graceful=False),
            at_25=lambda: three.add_node(num_cpus=1),
        )
        with open_cluster(three.address, 3) as cluster:
            launch = partial(cluster.train, progress=progress)
            train(Path(folder), replace(TRAIN, processes=3), launch=launch, progress=progress)
    gone, come = progress.texts
    assert re.match(
        r"training: process \d of 3 was killed, or its machine is gone; .* with 2 of 3 proc", gone
    ), gone
    assert re.match(r"training: there is room for more processes; .* with 3 of 3 processes", come), come
    assert progress.steps == STEPS, progress.steps


def test_machines_are_lost_and_come(tmp_path):
    assert alone(lost_and_come, tmp_path / "three").wait() == 0
    check_equal(tmp_path / "three", train(tmp_path / "alone"))


def check_equal(folder, expected):
    found = read_checkpoint(folder)
    assert found.finished
    for name, tensor in expected.items():
        torch.testing.assert_close(found.model[name], tensor, atol=1e-4, rtol=1e-3, msg=name)


def drive(address, folder):
    with open_cluster(address, 3) as cluster:
        train(Path(folder), replace(TRAIN, processes=3), launch=cluster.train)


def driver_is_killed(folder):
    with machines() as three:
        with alone(drive, three.address, folder) as driver:
            while (checkpoint := read_checkpoint(Path(folder))) is None:
                assert driver.poll() is None
                time.sleep(0.1)
            driver.kill()
        assert not checkpoint.finished
        assert alone(drive, three.address, folder).wait() == 0


def test_the_driver_is_killed(tmp_path):
    assert alone(driver_is_killed, tmp_path / "three").wait() == 0
    check_equal(tmp_path / "three", train(tmp_path / "alone"))


def fails_everywhere(folder):
    settings, failure = (
        replace(TRAIN, processes=3),
        pytest.raises(TrainingError, match="raised OSError: no more"),
    )
    with machines() as three, open_cluster(three.address, 3) as cluster, failure:
        train(Path(folder), settings, "support.slow_images:broken", launch=cluster.train)


def test_what_fails_on_all_machines_says_why(tmp_path):
    assert alone(fails_everywhere, tmp_path).wait() == 0
