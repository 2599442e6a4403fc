"""Studies of tasks other than classification, from data that a program has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import dynnas
from dynnas.data.given import dataset_of
from dynnas.errors import StudyError
from dynnas.language.parser import parse_space
from dynnas.settings.settings import TargetSettings, TrainSettings

SPACE = """
name: bright
input: {channels: 1, resolutions: [8]}
stem: {width: [4]}
stages:
  - {block: conv, depth: [1], width: [4, 8], op: [static, condconv], experts: [2]}
head: {width: [8]}
"""
TRAIN = TrainSettings(epochs=10, batch=32, lr=0.05, calibration_images=64)
TARGET = TargetSettings(seconds=0.02, runtime="torch")


def split(count: int, seed: int) -> TensorDataset:
    """Images of noise whose number is how bright they are."""
    rng = np.random.default_rng(seed)
    brightness = rng.uniform(20, 220, count)
    images = (brightness[:, None, None, None] + rng.normal(0, 10, (count, 1, 8, 8))).clip(0, 255)
    return TensorDataset(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(brightness))


@pytest.mark.slow
def test_a_number_is_told_of_images_and_the_error_is_an_objective(tmp_path: Path) -> None:
    splits, task = (split(160, 0), split(60, 1), split(60, 2)), dynnas.tasks.Regression(["brightness"])
    front = dynnas.search(
        parse_space(SPACE), data=splits, task=task, train=TRAIN, target=TARGET, objectives=("rmse", "params"),
        trials=3, controls=False, folder=tmp_path / "study",
    )  # fmt: skip
    data = dataset_of(splits, task)
    best = min(front, key=lambda member: member.metrics["rmse"])
    assert best.metrics["rmse"] < 30  # always telling the mean is 58
    assert {"mae", "r2", "test_rmse"} <= set(best.metrics)
    network = front.study.candidate(best.key).calibrated
    with torch.inference_mode():
        said = data.task.post(network(data.normalise(data.test.images)))[:, 0]
    error = (said - data.test.targets).square().mean().sqrt().item()
    assert error == pytest.approx(best.metrics["test_rmse"], rel=1e-3)


@pytest.mark.slow
def test_a_task_of_two_functions_is_searched_by_its_own_metric(tmp_path: Path) -> None:
    def apart(model: Any, batch: Any) -> torch.Tensor:
        return (model(batch[0])[:, 0] - batch[1] / 100).abs()

    def score(model: Any, batches: Any) -> dict[str, float]:
        return {"near": float((torch.cat([apart(model, batch) for batch in batches]) < 0.3).float().mean())}

    task = dynnas.tasks.Functions(apart, score, {"near": "maximize"}, outputs=1)
    front = dynnas.search(
        parse_space(SPACE), data=(split(160, 0), split(60, 1), split(60, 2)), task=task,
        train=replace(TRAIN, epochs=1), target=TARGET, objectives=("near", "params"), trials=2,
        controls=False, folder=tmp_path / "study",
    )  # fmt: skip
    for member in front:
        network, data = front.study.network(member.key), front.study.dataset
        with torch.no_grad():
            again = score(network, [(data.normalise(data.search.images), data.search.targets)])
        assert member.metrics["near"] == pytest.approx(again["near"])
        assert "test_near" in member.metrics


def test_scores_of_another_task_are_refused_before_the_training(tmp_path: Path) -> None:
    data = dataset_of((split(40, 0), split(20, 1), split(20, 2)), dynnas.tasks.Regression())
    with pytest.raises(StudyError, match=r"the data is regression, which does not give .accuracy.*rmse"):
        dynnas.search(parse_space(SPACE), data=data, train=TRAIN, target=TARGET, folder=tmp_path / "study")
