"""Folders of pictures and masks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings


def write(root: Path, numbers: range, size: tuple[int, int] = (16, 12)) -> Path:
    """Bright areas are of class 1, a dark line counts for nothing, and the rest is of class 0."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in numbers:
        mask = np.zeros(size[::-1], np.uint8)
        mask[2 + number % 5 :, 3 + number % 7 :] = 1
        pixels = np.where(mask == 1, 250, 100).astype(np.uint8)
        pixels[0], mask[0] = 10, 255
        Image.fromarray(pixels).convert("RGB").save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


def load(root: Path, **settings: object) -> Dataset:
    return load_data(DataSettings(source=str(root), **settings))  # type: ignore[arg-type]


def told_apart(dataset: Dataset) -> bool:
    """Whether masks say what the pictures show."""
    parts = (dataset.train, dataset.search, dataset.test)
    return all(torch.equal(read_images(part.images)[:, 0] > 200, part.targets == 1) for part in parts)


def test_masks_belong_to_their_pictures(tmp_path: Path) -> None:
    root = write(tmp_path / "road", range(20))
    (root / "classes.txt").write_text("road\ncar\n")
    dataset = load(root, size=(12, 16))
    assert (dataset.task.name, dataset.task.names) == ("segmentation", ("road", "car"))
    assert (dataset.split_sizes, dataset.size) == ((14, 2, 4), (12, 16))
    assert told_apart(dataset)
    assert (dataset.train.targets[:, 0] == 255).all()
    assert str(dataset.augmentation) == "shifts of up to 1 px"


def test_splits_are_kept_and_streamed_pictures_are_the_same(tmp_path: Path) -> None:
    for part, numbers in (("train", range(8)), ("val", range(8, 11)), ("test", range(11, 16))):
        write(tmp_path / "road" / part, numbers)
    held = load(tmp_path / "road", size=(12, 16))
    assert held.split_sizes == (8, 3, 5)
    assert told_apart(held)
    streamed = load(tmp_path / "road", size=(12, 16), memory_gb=0.000006, workers=0)
    assert not isinstance(streamed.train.images, torch.Tensor)
    assert streamed.digest == held.digest


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_masks_are_brought_to_size_as_pictures_are(tmp_path: Path, fit: str) -> None:
    dataset = load(write(tmp_path / "road", range(20), size=(32, 20)), size=(24, 24), fit=fit)
    shown = read_images(dataset.train.images)[:, 0]
    sure = (shown > 245) | ((shown > 80) & (shown < 120))  # not where a border is smoothed
    assert sure.float().mean() > 0.5
    assert (dataset.train.targets[sure] == (shown[sure] > 200)).float().mean() > 0.97
    if fit == "pad":
        assert (dataset.train.targets[:, :4] == 255).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / "masks/3.png").unlink(),
            r"images/3\.png: no mask .*masks/3\.png",
        ),
        (lambda root: (root / "masks/3.png").write_bytes(b"x"), r"masks/3\.png: not a readable mask"),
        (
            lambda root: Image.new("RGB", (16, 12)).save(root / "masks/3.png"),
            "a mask of mode RGB; save the class",
        ),
        (
            lambda root: Image.new("L", (16, 13)).save(root / "masks/3.png"),
            r"\(16, 13\) pixels, but its picture",
        ),
    ],
)
def test_masks_that_cannot_be_used(tmp_path: Path, change, message: str) -> None:
    root = write(tmp_path / "road", range(12))
    change(root)
    with pytest.raises(DataError, match=message):
        load(root)


def test_masks_of_nothing_and_what_is_in_front_say_how_to_be_saved(tmp_path: Path) -> None:
    root = write(tmp_path / "road", range(20))
    for path in (root / "masks").iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(
        DataError, match=r"masks hold only 0 and 255, and 255 counts for nothing; .* 1 for what"
    ):
        load(root)


def test_the_line_of_what_was_read_says_how_much_each_class_has(tmp_path: Path) -> None:
    task = load(write(tmp_path / "road", range(20)), size=(12, 16)).task
    masks = torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    assert task.summary(masks) == "2 classes of pixels in training (1 33.3%, 0 66.7%)"
    assert task.missing(masks[..., :2]) == ("1",)


def test_masks_that_do_not_fit_into_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"masks of 12 x 12 pixels would take 1\.73e-06 GB of memory"):
        load(write(tmp_path / "road", range(12)), memory_gb=0.000001)
