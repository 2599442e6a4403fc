"""Ray Tune drives a search with our samplers: its actors score, and the trials lie in an ordinary study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dynnas
from dynnas.language.parser import parse_space
from dynnas.search.storage.studies import load_trials
from dynnas.space.architecture import Architecture

pytest.importorskip("ray.tune", reason="the extra ray is not installed")
pytestmark = pytest.mark.timeout(300)

SPACE = "{name: cells, choices: {kernel: [3, 5], width: [16, 32, 64], op: [static, condconv]}}"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ray_tune.py"


@pytest.mark.slow
def test_trials_of_tune_are_those_of_a_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'cells.db'}"
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), url], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    study = load_trials(url, "cells")
    assert study is not None
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    names = {"op", "kernel", "width"}
    space = parse_space(
        "{name: cells, choices: {kernel: [3, 5], width: [16, 32, 64], op: [static, condconv]}}"
    )
    keys = [space.architecture(trial.params).key for trial in study.trials]
    assert {frozenset(trial.params) for trial in study.trials} == {frozenset(names)}
    assert len(set(keys)) == len(keys) == 10  # none twice
    for trial in study.trials:
        gain = 1.1 if trial.params["op"] == "condconv" else 1.0
        cost = trial.params["width"] * trial.params["kernel"] ** 2
        assert trial.values == pytest.approx([1 - 1 / (gain * cost), cost / 100 * gain])

    evaluated: list[str] = []

    class Rest:
        """Must be asked for what Tune has not scored, and for nothing else."""

        def evaluate(self, architecture: Architecture) -> dict[str, float]:
            evaluated.append(architecture.key)
            return {"accuracy": 0.0, "latency_ms": 1e3}

    front = dynnas.search(
        space, Rest(), trials=99, storage=url, objectives={"accuracy": "maximize", "latency_ms": "minimize"}
    )
    assert len(evaluated) == 2
    assert not set(evaluated) & set(keys)
    printed = done.stdout.strip().splitlines()
    assert [f"{dict(member.architecture)} {dict(member.metrics)}" for member in front] == printed[
        -len(front) :
    ]
