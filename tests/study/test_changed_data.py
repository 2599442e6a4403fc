"""A study's data may move, but not change: what was learned from other images or classes is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.small_study import small_space

from dynnas.data.load import load_data
from dynnas.errors import StudyError
from dynnas.settings.settings import DataSettings
from dynnas.space.space import Space
from dynnas.study.folder import StudyFolder
from dynnas.study.study import Study
from dynnas.workflows.start import begin_study


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def begin(place: Path, space: Space, images: Path) -> Study:
    """A study of the pictures in `images` that has only begun."""
    place.mkdir(parents=True, exist_ok=True)
    settings = replace(space.settings, data=DataSettings(source=str(images)))
    dataset = load_data(settings.data)
    begin_study(
        space,
        StudyFolder(place),
        None,
        data=dataset.digest,
        settings=settings,
        task=dataset.task,
        images=dataset.split_sizes,
    )
    return Study(StudyFolder(place))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for label, name in enumerate(("blue", "green", "red")):
        for number in range(12):
            draw(folder / name / f"{number}.png", 100 * label + number)
    return folder


@pytest.fixture
def study(tmp_path: Path, images: Path) -> Study:
    return begin(tmp_path / "studies" / "colours", small_space(tmp_path), images)


def test_the_same_images_are_accepted(study: Study) -> None:
    assert study.dataset.task.names == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            lambda folder: (folder / "red").rename(folder / "crimson"),
            "classes were removed or renamed: red\n  classes were added or renamed: crimson",
        ),
        (
            lambda folder: shutil.copytree(folder / "red", folder / "violet"),
            "classes were added or renamed: violet",
        ),
        (lambda folder: draw(folder / "red" / "more.png", 7), "split has "),
        (lambda folder: draw(folder / "red" / "3.png", 7), "the pixels, the labels or the split"),
    ],
    ids=["renamed class", "added class", "added picture", "changed picture"],
)
def test_changed_data_are_refused(
    study: Study, images: Path, change: Callable[[Path], object], difference: str
) -> None:
    change(images)
    with pytest.raises(StudyError, match=re.escape(difference)) as refusal:
        _ = study.dataset
    assert f"the data at {images} are no longer those of the study" in str(refusal.value)


def test_equal_images_that_moved_are_accepted(tmp_path: Path, study: Study, images: Path) -> None:
    moved = images.rename(tmp_path / "elsewhere")
    again = begin(study.folder.path, small_space(tmp_path), moved)
    assert again.record.data == study.record.data
    assert again.dataset.split_sizes == load_data(DataSettings(source=str(moved))).split_sizes
