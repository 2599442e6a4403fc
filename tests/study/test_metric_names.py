"""Metrics of any name: `error` is one as any other, and what trials need for themselves is refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

import dynnas as dn
from dynnas.errors import StudyError
from dynnas.language.parser import parse_space
from dynnas.settings.metrics import Metric
from dynnas.settings.settings import SearchSettings, TargetSettings, TrainSettings
from dynnas.study.given import goal_of
from dynnas.tasks import Functions


class Errors:
    def evaluate(self, architecture):
        return {"error": 1 / architecture["width"], "cost": float(architecture["width"])}


def test_an_evaluator_may_call_its_metric_error():
    space = parse_space("choices: {width: [1, 2, 4]}")
    ways = {"error": "minimize", "cost": "minimize"}
    front = dn.search(space, Errors(), trials=3, seed=1, objectives=ways)
    assert [member.metrics["error"] for member in front] == [1.0, 0.5, 0.25]


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)


def score(model, batches):
    return {"error": float(sum((model(x) - y).abs().sum() for x, y in batches))}


def test_so_may_a_task(tmp_path: Path):
    task = Functions(
        lambda model, batch: (model(batch[0]) - batch[1]).abs().mean(), score, {"error": "minimize"}
    )
    images = torch.rand(80, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    split = (images.numpy(), images.mean((1, 2, 3), keepdim=True)[:, :, 0, 0].numpy())
    front = dn.search(
        dn.Space.of(Net, width=[2, 4]), data=(split, split, split), task=task, trials=2, controls=False,
        objectives=["error", "latency_ms"], folder=tmp_path / "study", train=TrainSettings(epochs=1),
        target=TargetSettings(seconds=0.01),
    )  # fmt: skip
    assert len(front) in (1, 2)
    assert all(member.metrics["error"] > 0 for member in front)


def test_names_that_trials_need_are_refused():
    metrics = (Metric("failure", "", "minimize", "of the bridge"),)
    with pytest.raises(StudyError, match="a metric is called 'failure', a name that trials need; call it"):
        goal_of(SearchSettings(objectives=("failure", "latency_ms")), metrics, ())
