"""A task whose score is an error, from the search to what ships: the lower value is the better one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynnas.study.study import Study, open_study

SPACE = """
name: ages
data: {source: faces/ages.csv, task: regression}
input: {resolutions: 8}
stem: {width: 4}
stages: [{block: conv, width: [4, 8], kernel: [1, 3]}]
train: {epochs: 2, batch: 16, precision: float32, layout: channels_first}
search: {trials: 4, controls: false}
target: {seconds: 0.02}
"""


@pytest.fixture(scope="module")
def study(dynnas: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ages")
    rng = np.random.default_rng(0)
    (folder / "faces").mkdir()
    rows = ["file,age"]
    for number in range(120):
        level = int(rng.integers(0, 200))
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(folder / "faces" / f"{number}.png")
        rows.append(f"{number}.png,{level / 10}")
    (folder / "faces" / "ages.csv").write_text("\n".join(rows))
    text = SPACE.replace("faces/", f"{folder}/faces/")
    (folder / "ages.yaml").write_text(text, encoding="utf-8")
    ran = dynnas("search", str(folder / "ages.yaml"), "--studies", str(folder), "--quiet")
    assert ran.status == 0, ran.err
    assert "rmse on the test images at" in ran.out
    return folder / "ages"


def test_the_front_and_its_pictures_are_of_the_error(study: Path, dynnas: Callable) -> None:
    ran = dynnas("front", str(study))
    assert ran.status == 0, ran.err
    assert ran.out[ran.out.index("key ") :].split()[:3] == ["key", "rmse", "test"]
    assert dynnas("report", str(study)).status == 0
    assert "accuracy" not in ran.out
    page = (study / "report.html").read_text()
    assert "rmse" in page
    assert "accuracy" not in page


def test_the_best_weights_have_the_least_error(study: Path, dynnas: Callable) -> None:
    ran = dynnas("train", str(study), "--epochs", "8", "--quiet")
    assert ran.status == 0, ran.err
    assert "trained alone; rmse, inherited and trained on search images" in ran.out
    opened: Study = open_study(study)
    (found, *_) = opened.trained
    best = opened.weights_of(found.key, "best")
    assert (best is not None) == (found.score <= found.inherited)
    assert ran.out.count(f"{found.score:.4g}") >= 1
    assert set(found.scores) == {"rmse", "mae", "r2", "test_rmse", "test_mae", "test_r2"}


@pytest.mark.slow
def test_it_is_audited_compressed_and_shipped(study: Path, dynnas: Callable, tmp_path: Path) -> None:
    ran = dynnas("audit", str(study), "--networks", "4", "--epochs", "1", "--quiet")
    assert ran.status == 0, ran.err
    assert "rmse on search images after 1 epochs alone" in ran.out
    assert "%" not in ran.out.split("(95% by bootstrap)")[1]
    ran = dynnas("compress", str(study), "--pass", "int8", "--quiet")
    assert ran.status == 0, ran.err
    assert "test rmse" in ran.out
    ran = dynnas("cascade", str(study), "--quiet")
    assert ran.status == 2
    assert (
        "task regression: its outputs do not tell how sure they are" in ran.err
        or "has one network" in ran.err
    )
    ran = dynnas("export", str(study), "--out", str(tmp_path / "model"))
    assert ran.status == 0, ran.err
    assert "accuracy" not in (tmp_path / "model" / "README.md").read_text()
    picture = study.parent / "faces" / "0.png"
    said = subprocess.run(
        [sys.executable, str(tmp_path / "model" / "run.py"), str(picture)], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["task"]["task"] == "regression"
