"""A GPU that is not there has one message, whatever command asks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynnas.data.load import load_data
from dynnas.errors import TargetError
from dynnas.language.parser import load_space
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.space.moves import smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.device import usable_device
from dynnas.training.recipe import Recipe
from dynnas.training.start import train_supernet
from dynnas.training.train_network import fresh_network, train_alone
from dynnas.workflows.run import run_study

MISSING = (
    r"target: device is 'cuda(:1)?', but torch sees no CUDA device here; take device cpu, or go on where"
)

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_every_training_asks() -> None:
    assert usable_device("cpu") == "cpu"
    with pytest.raises(TargetError, match=MISSING):
        usable_device("cuda:1")


def test_search(tmp_path: Path) -> None:
    space = load_space(Path("spaces/mobile.yaml"))
    target = replace(space.settings.target, device="cuda")
    space = replace(space, settings=replace(space.settings, target=target))
    with pytest.raises(TargetError, match=MISSING):
        run_study(space, folder=tmp_path / "study")


def test_train_and_audit(tmp_path: Path) -> None:
    space = load_space(Path("spaces/mobile.yaml"))
    data = load_data(DataSettings(train_images=64))
    supernet = staged_supernet(space, data.channels, data.task.outputs)
    with pytest.raises(TargetError, match=MISSING):
        train_supernet(supernet, data, TrainSettings(epochs=1), tmp_path, device="cuda")
    network = fresh_network(space.network_config(smallest(space)), 0)
    with pytest.raises(TargetError, match=MISSING):
        train_alone(network, data, Recipe(TrainSettings(epochs=1)), tmp_path, device="cuda")
