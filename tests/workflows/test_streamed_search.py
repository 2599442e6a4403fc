"""A search over pictures that are streamed, held in memory or given by a program finds the same."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.small_study import small_space

import dynnas
from dynnas.data.dataset import Split
from dynnas.data.load import load_data
from dynnas.data.streaming.images import StreamedImages, read_images
from dynnas.export.bundle import export_model
from dynnas.study.front import StudyFront

TRAIN = {"epochs": 1, "batch": 16}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark pictures with noise."""
    root = tmp_path_factory.mktemp("data") / "shades"
    rng = np.random.default_rng(0)
    for name, shade in (("bright", 150), ("dark", 60)):
        (root / name).mkdir(parents=True)
        for number in range(40):
            pixels = np.clip(rng.normal(shade, 50, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def searched(root: Path, folder: Path, workers: int = 1, **data: object) -> StudyFront:
    folder.mkdir()
    sections: dict[str, Mapping[str, object]] = {
        "data": {"source": str(root), "train_images": None, **data},
        "train": TRAIN,
        "search": {"trials": 4, "controls": False, "workers": workers},
    }
    front = dynnas.search(small_space(folder, **sections), folder=folder / "study")
    assert isinstance(front, StudyFront)
    return front


def accuracies(front: StudyFront) -> dict[str, float]:
    return {each.key: each.metrics["accuracy"] for each in front.study.candidates}


@pytest.mark.slow
def test_streamed_and_in_memory_are_ranked_alike(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    held = searched(pictures, tmp_path / "held")
    streamed = searched(pictures, tmp_path / "streamed", memory_gb=0.0)
    data = streamed.study.dataset
    assert isinstance(data.search.images, StreamedImages)
    assert data.digest == held.study.dataset.digest
    assert accuracies(streamed) == accuracies(held)
    assert streamed.study.supernet.digest() == held.study.supernet.digest()
    manifest = export_model(streamed.study.network(streamed[0].key), data, tmp_path / "model", images=8)
    assert manifest["artifacts"][0]["agreement"] == 1


def test_a_loader_and_the_same_data_by_path_are_ranked_alike(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    by_path = searched(pictures, tmp_path / "path", augment="none")
    data = load_data(by_path.study.settings.data)
    splits = {
        part: Split(read_images(getattr(data, part).images), getattr(data, part).targets)
        for part in ("train", "search", "test")
    }
    (tmp_path / "given").mkdir()
    space = small_space(
        tmp_path / "given", train=TRAIN, search={"trials": 4, "controls": False}, data={"train_images": None}
    )
    given = dynnas.search(space, data=splits, folder=tmp_path / "given" / "study")
    assert isinstance(given, StudyFront)
    assert accuracies(given) == accuracies(by_path)
    assert given.study.supernet.digest() == by_path.study.supernet.digest()
