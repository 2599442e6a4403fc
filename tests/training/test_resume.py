"""Interrupted training goes on to the same weights; bad losses and foreign checkpoints stop it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from support.interrupts import Interrupt

from dynnas.data.load import load_data
from dynnas.errors import TrainingError
from dynnas.language.parser import parse_space
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.supernet.staged import staged_supernet
from dynnas.training.checkpoint import every_step, load_supernet
from dynnas.training.start import train_supernet

SPACE = """
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: [4, 8], kernel: 3, stride: 1, activation: relu}
stages:
  - {block: mbconv, depth: [1, 2], width: [8, 16], stride: 2, kernel: [3, 5], expand: 2,
     op: [static, dyconv, dynet], experts: [2, 4], group: 2, activation: relu}
  - {block: conv, depth: 1, width: 16, stride: 1, kernel: 3, op: static, activation: relu}
head: {width: [16, 32], activation: relu, dropout: 0.1}
exits: {positions: [stage1], count: [0, 1], thresholds: [0.9], width: 8, activation: relu}
"""
SETTINGS = TrainSettings(epochs=2, batch=64, lr=0.1, precision="float32", layout="channels_last")


@pytest.fixture(scope="module")
def space():
    return parse_space(SPACE)


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=640))


def _supernet(space, settings=SETTINGS):
    return staged_supernet(space, channels=1, classes=10, experts=settings.experts, seed=settings.seed)


@pytest.fixture(scope="module")
def uninterrupted(space, dataset, tmp_path_factory):
    supernet = _supernet(space)
    train_supernet(supernet, dataset, SETTINGS, tmp_path_factory.mktemp("whole"))
    return supernet.digest()


@pytest.mark.parametrize("stop", [10, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 13))])
def test_resumed_training_ends_with_the_same_weights(space, dataset, tmp_path, uninterrupted, stop):
    with pytest.raises(KeyboardInterrupt):
        train_supernet(_supernet(space), dataset, SETTINGS, tmp_path, progress=Interrupt(stop))
    supernet = _supernet(space)
    train_supernet(supernet, dataset, SETTINGS, tmp_path)
    assert supernet.digest() == uninterrupted
    assert load_supernet(tmp_path, space, 1, 10, SETTINGS).digest() == uninterrupted


SCRIPT = """
import sys, pathlib, torch
sys.path[:0] = sys.argv[2].split(':')
torch.set_num_threads(1)
import test_resume as t
from dynnas.training.checkpoint import every_step
space = t.parse_space(t.SPACE)
data = t.load_data(t.DataSettings(train_images=640))
t.train_supernet(t._supernet(space), data, t.SETTINGS, pathlib.Path(sys.argv[1]), timer=every_step())
"""


def test_killed_training_ends_with_the_same_weights(space, dataset, tmp_path, uninterrupted):
    """kill -9 of a real process, after its first checkpoint."""
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), f"{here}:{os.path.dirname(here)}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while (
        not (tmp_path / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    process.stderr.close()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] < 20
    supernet = _supernet(space)
    train_supernet(supernet, dataset, SETTINGS, tmp_path)
    assert supernet.digest() == uninterrupted


def test_a_finished_training_is_not_repeated(space, dataset, tmp_path, uninterrupted):
    train_supernet(_supernet(space), dataset, SETTINGS, tmp_path)
    written = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    supernet = _supernet(space)
    train_supernet(supernet, dataset, SETTINGS, tmp_path, progress=Interrupt(1))
    assert supernet.digest() == uninterrupted
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == written


def test_training_needs_a_finished_checkpoint_to_be_loaded(space, tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint"):
        load_supernet(tmp_path, space, 1, 10, SETTINGS)


def test_a_checkpoint_of_another_training_is_refused(space, dataset, tmp_path):
    train_supernet(_supernet(space), dataset, replace(SETTINGS, epochs=1), tmp_path)
    with pytest.raises(TrainingError, match="another space, data set or settings"):
        train_supernet(_supernet(space), dataset, SETTINGS, tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_one_message(space, dataset, tmp_path, damage):
    train_supernet(_supernet(space), dataset, replace(SETTINGS, epochs=1), tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a readable checkpoint"):
        load_supernet(tmp_path, space, 1, 10, SETTINGS)


def test_a_checkpoint_with_code_in_it_is_not_run(space, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"dynnas_checkpoint": 2, "model": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        load_supernet(tmp_path, space, 1, 10, SETTINGS)
    assert not (tmp_path / "ran").exists()


def test_a_loss_that_is_not_finite_names_architecture_and_step(space, dataset, tmp_path):
    supernet = _supernet(space)

    class Poison(Interrupt):
        def advance(self, steps=1, note=""):
            self.left -= steps
            if self.left == 0:
                with torch.no_grad():
                    for parameter in supernet.parameters():
                        parameter.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match=r"architecture [0-9a-f]{12} is nan at step 3 .*last good checkpoint is kept"
    ):
        train_supernet(supernet, dataset, SETTINGS, tmp_path, progress=Poison(3), timer=every_step())
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())
