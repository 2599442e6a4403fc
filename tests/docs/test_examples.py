"""The examples: a training script becomes a search in ten lines, and what it finds runs alone."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxes import voc
from support.scripts import load_script

from dynnas.data.streaming.images import read_images
from dynnas.export.bundle import export_model
from dynnas.metrics.accuracy import accuracy

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TASKS = ("classification", "regression", "segmentation", "detection", "embedding", "sequences")
SLOW = ("classification", "detection", "embedding", "sequences")


@pytest.mark.parametrize("task", TASKS[:5])  # the sixth is a space of its own, not a script that was there
def test_a_search_takes_ten_lines(task: str) -> None:
    lines = (EXAMPLES / f"{task}.py").read_text().splitlines()
    begin, end = (lines.index(mark) for mark in ("    # search", "    # end of search"))
    assert len([line for line in lines[begin + 1 : end] if line.strip()]) <= 10


def coloured(path: Path) -> Path:
    """Write images (24, 32) whose upper part has one colour and whose lower part another."""
    rng, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 40), ("test", 16)):
        masks = np.zeros((count, 24, 32), np.uint8)
        for number, row in enumerate(rng.integers(6, 18, count)):
            masks[number, row:] = 1
            masks[number, row] = 255
        images = np.where(masks[..., None] == 1, (200, 60, 40), (40, 90, 210)) + rng.integers(
            0, 30, (count, 24, 32, 3)
        )
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": masks}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """Run an example on small data, once; returns its study and the folder of its data."""

    @cache
    def once(task: str) -> tuple[Any, Path]:
        folder = tmp_path_factory.mktemp(task)
        given = {
            "segmentation": lambda: [str(coloured(folder / "road.npz"))],
            "detection": lambda: [str(voc(folder / "cells", names=("cell", "dot", "rod")))],
        }
        words = [*given.get(task, list)(), "--epochs", "1", "--trials", "2", "--study", str(folder / "study")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DYNNAS_CACHE", str(folder / "cache"))
            patch.setattr(sys, "argv", [f"{task}.py", *words])
            made = runpy.run_path(str(EXAMPLES / f"{task}.py"), run_name="__main__")
        return made["front"].study, folder

    return once


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=pytest.mark.slow) if task in SLOW else task for task in TASKS]
)
def test_an_example_searches_and_its_network_runs_alone(
    task: str, run: Callable[[str], tuple[Any, Path]], tmp_path: Path
) -> None:
    study, _ = run(task)
    data, key = study.dataset, study.front[0].key
    bundle = tmp_path / "model"
    manifest = export_model(study.network(key), data, bundle, facts={"network": key})
    kinds = {"sequences": "classification", "embedding": "functions"}
    assert manifest["task"]["task"] == kinds.get(task, task)
    first = data.task.metrics[0].name
    assert f"{first} " in (bundle / "README.md").read_text()

    # All search images by the graph alone, scored by the task: what the study says.
    model = load_script(bundle / "run.py").Model(bundle)
    answers = [model(pixels) for pixels in read_images(data.search.images).numpy()]
    expected = study.front[0].metrics[first]
    values = torch.from_numpy(np.stack([answer.value for answer in answers]))
    if task == "detection":
        found = data.task.score(values.float(), data.search.targets)[first]
    elif task == "segmentation":
        logits = torch.nn.functional.one_hot(values.long(), data.task.outputs).permute(0, 3, 1, 2).float()
        found = data.task.score(logits, data.search.targets)[first]
    elif task == "embedding":
        found = data.task.score(values, data.search.targets)[first]
    elif task == "regression":
        found = (values - data.search.targets).square().mean(0).sqrt().mean().item()
    else:
        found = (values.argmax(1) == data.search.targets).double().mean().item()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert accuracy(study.network(key), data).scores[first] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_boxes_come_out_in_pixels_of_the_file(run: Callable[[str], tuple[Any, Path]]) -> None:
    study, folder = run("detection")
    bundle = folder / "study" / "knee"
    script = load_script(bundle / "run.py")
    model, file = script.Model(bundle), folder / "cells" / "JPEGImages" / "005.png"
    assert model(model.read(file)).value.shape[1] == 6
    boxes = np.zeros((2, 6))
    boxes[0] = (4, 6, 20, 12, 0.9, 1)
    answer = script.Answer("", 0.9, "head", boxes)
    same = model.on_picture(answer, (40, 30))
    assert same.name == f"{study.dataset.task.names[1]} 0.90 4.0,6.0,20.0,12.0"
    # Padded from 80 x 30: half as large, and 7.5 rows of black above.
    padded = model.on_picture(answer, (80, 30)).value
    assert padded[0, :4].tolist() == pytest.approx([8, 0, 40, 9])
    assert padded[1].tolist() == [0] * 6
    model.fit = "stretch"
    assert model.on_picture(answer, (80, 30)).value[0, :4].tolist() == pytest.approx([8, 6, 40, 12])
    ran = subprocess.run(
        [sys.executable, bundle / "run.py", file], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith(f"{file}\t")
    assert json.loads((bundle / "manifest.json").read_text())["input"]["fit"] == "pad"


def test_masks_are_written(run: Callable[[str], tuple[Any, Path]], tmp_path: Path) -> None:
    study, _ = run("segmentation")
    export_model(study.network(study.front[0].key), study.dataset, tmp_path / "model")
    pixels = read_images(study.dataset.search.images)[0].numpy()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "road.png")
    script = load_script(tmp_path / "model" / "run.py")
    status = script.main([str(tmp_path / "road.png"), "--masks", str(tmp_path / "masks")], tmp_path / "model")
    assert status == 0
    written = np.asarray(Image.open(tmp_path / "masks" / "road.png.png"))
    assert np.array_equal(written, script.Model(tmp_path / "model")(pixels).value)
    assert written.shape == (24, 32)
