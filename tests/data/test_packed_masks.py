"""Pictures and masks in one .npz, as files laid end to end."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynnas.data.load import load_data
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 95} if kind == "jpeg" else {}))
    return stream.getvalue()


def pack(path: Path, parts: dict[str, int], **changes: np.ndarray) -> Path:
    """The lower part is bright and of class 1; the first row counts for nothing."""
    held: dict[str, np.ndarray] = {"classes": np.array(["road", "car", "void"])}
    for part, count in parts.items():
        files: dict[str, list[bytes]] = {"jpeg": [], "png": []}
        for number in range(count):
            mask = np.zeros((16, 24), np.uint8)
            mask[4 + number % 8 :] = 1
            mask[:2] = 2
            files["jpeg"].append(
                encoded(np.repeat(np.where(mask == 1, 240, 10)[..., None], 3, 2).astype(np.uint8), "jpeg")
            )
            files["png"].append(encoded(mask, "png"))
        for kind, contents in files.items():
            held[f"{part}_{kind}"] = np.frombuffer(b"".join(contents), np.uint8)
            held[f"{part}_{kind}_offsets"] = np.cumsum([0, *map(len, contents)])
    np.savez(path, **{**held, **changes})
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("size", [(), (8, 12)])
def test_masks_belong_to_their_pictures(tmp_path: Path, size: tuple[int, ...]) -> None:
    path = pack(tmp_path / "road.npz", {"train": 12, "search": 4, "test": 5})
    dataset = load_data(DataSettings(source=str(path), size=size, augment="none"))
    assert (dataset.task.name, dataset.task.names) == ("segmentation", ("road", "car"))
    assert (dataset.split_sizes, dataset.size) == ((12, 4, 5), size or (16, 24))
    for split in (dataset.train, dataset.search, dataset.test):
        bright = read_images(split.images)[:, 0] > 128
        told = (split.targets == 1)[split.targets != 255] == bright[split.targets != 255]
        assert float(told.double().mean()) > 0.9  # JPEG blurs the edge
        assert (split.targets[:, 0] == 255).all()


def test_splits_that_are_missing_are_cut(tmp_path: Path) -> None:
    dataset = load_data(DataSettings(source=str(pack(tmp_path / "road.npz", {"train": 20}))))
    assert dataset.split_sizes == (14, 2, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_png_offsets": np.array([0, 3])}, "train_png_offsets must rise from 0 to the"),
        (
            {"train_jpeg": np.zeros(40, np.uint8), "train_jpeg_offsets": np.arange(0, 41, 10)},
            "picture 0: not a readable image",
        ),
        (
            {"classes": np.array(["void", "road", "car"])},
            "'void' counts for nothing; let it be the last class",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    path = pack(tmp_path / "road.npz", {"train": 4}, **changes)
    with pytest.raises(DataError, match=message):
        load_data(DataSettings(source=str(path)))


def test_camvid() -> None:
    folder = Path(os.environ.get("DYNNAS_DATA", "data"))
    if not (folder / "camvid360x480.npz").is_file():
        pytest.skip("camvid360x480.npz does not lie in $DYNNAS_DATA")
    dataset = load_data(DataSettings(source=str(folder / "camvid360x480.npz"), size=(90, 120)))
    assert (dataset.split_sizes, len(dataset.task.names)) == ((367, 101, 233), 11)
    assert set(torch.unique(dataset.train.targets).tolist()) == {*range(11), 255}
