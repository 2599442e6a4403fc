"""Folders of pictures."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynnas.data.load import load_data
from dynnas.data.raw import RawData
from dynnas.data.sources import find
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings


def _save(path: Path, size: tuple[int, int] = (10, 10), shade: int = 100, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).convert(mode).save(path)


def _fill(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 4) -> Path:
    for number, name in enumerate(classes):
        for i in range(count):
            _save(root / name / f"{i}.png", shade=50 * number + i)
    return root


def _read(root: Path) -> RawData:
    return find.read(str(root), Progress())


def test_one_folder_a_class(tmp_path: Path) -> None:
    raw = _read(_fill(tmp_path / "pets"))
    assert raw.test is None
    assert (raw.name, raw.class_names) == ("pets", ("cat", "dog"))
    assert raw.train.images.shape == (8, 1, 10, 10)
    assert raw.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 50, 51, 52, 53]
    assert raw.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_train_and_test_folders(tmp_path: Path, test_folder: str) -> None:
    _fill(tmp_path / "train")
    _fill(tmp_path / test_folder, classes=("dog",), count=2)
    raw = _read(tmp_path)
    assert raw.test is not None
    assert len(raw.train) == 8
    assert raw.test.labels.tolist() == [1, 1]


def test_test_comes_before_val(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 3), ("test", 2)):
        _fill(tmp_path / part, count=count)
    raw = _read(tmp_path)
    assert raw.test is not None
    assert len(raw.test) == 4


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert _read(_fill(tmp_path, ("plane", "train"))).class_names == ("plane", "train")


def test_other_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    _fill(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "cat" / "._0.png").write_text("a file system's own record")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.md").write_text("not a class")
    _save(tmp_path / "cat" / "more" / "9.JPG")
    raw = _read(tmp_path)
    assert raw.class_names == ("cat", "dog")
    assert len(raw.train) == 9


def test_the_resolution_is_the_median_of_the_shorter_sides(tmp_path: Path) -> None:
    for i, size in enumerate([(10, 30), (12, 12), (40, 16)]):
        _save(tmp_path / "a" / f"{i}.png", size)
        _save(tmp_path / "b" / f"{i}.png", size)
    assert _read(tmp_path).train.images.shape == (6, 1, 12, 12)


def test_the_resolution_is_at_most_224(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path / name / "0.png", (300, 400))
    assert _read(tmp_path).train.images.shape[2:] == (224, 224)


def test_the_central_square_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 2:6] = 200
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    assert (_read(tmp_path).train.images == 200).all()


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 0], [200, 200]], np.uint8))
    orientation = Image.Exif()
    orientation[0x0112] = 3  # upside down
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "0.png", exif=orientation)
    assert _read(tmp_path).train.images[0, 0].tolist() == [[200, 200], [0, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_a_coloured_picture_makes_all_rgb(tmp_path: Path, mode: str) -> None:
    for name in ("a", "b"):
        _save(tmp_path / name / "0.png", mode="L")
        _save(tmp_path / name / ("1.jpg" if mode == "CMYK" else "1.png"), mode=mode)
    images = _read(tmp_path).train.images
    assert images.shape == (4, 3, 10, 10)
    assert (abs(images.astype(int) - 100) <= 2).all()


def test_decoded_pictures_are_kept_until_a_file_changes(tmp_path: Path, cache_folder: Path) -> None:
    _fill(tmp_path / "pets")
    _read(tmp_path / "pets")
    (kept,) = cache_folder.glob("pictures-*.npy")
    changed = kept.stat().st_mtime_ns
    assert _read(tmp_path / "pets").train.images[0, 0, 0, 0] == 0
    assert kept.stat().st_mtime_ns == changed
    _save(tmp_path / "pets" / "cat" / "0.png", shade=99)
    os.utime(tmp_path / "pets" / "cat" / "0.png", ns=(0, 0))
    assert _read(tmp_path / "pets").train.images[0, 0, 0, 0] == 99


def test_progress_is_told(tmp_path: Path) -> None:
    seen = []

    class Told(Progress):
        def task(self, name: str, total: int, done: int = 0):
            seen.append((name, total))
            return super().task(name, total, done)

    find.read(str(_fill(tmp_path)), Told())
    assert seen == [("listing pictures", 8), ("decoding images", 8)]


def test_damaged_picture(tmp_path: Path) -> None:
    _fill(tmp_path)
    path = tmp_path / "dog" / "2.png"
    noise = np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"dog/2\.png: not a readable image \(.*\); replace or remove it"):
        _read(tmp_path)


def test_no_picture(tmp_path: Path) -> None:
    _fill(tmp_path)
    (tmp_path / "dog" / "2.png").write_text("<html>")
    with pytest.raises(DataError, match=r"dog/2\.png: not a readable image \(its content is no form of"):
        _read(tmp_path)


def test_deep_picture(tmp_path: Path) -> None:
    _fill(tmp_path)
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "cat" / "16.png")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "cat" / "colours.png")
    with pytest.raises(
        DataError, match=r"cat/16\.png is grey with 16 bits or more, and .* has colours; convert"
    ):
        _read(tmp_path)


def test_pictures_of_floats(tmp_path: Path) -> None:
    _fill(tmp_path)
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "cat" / "f.tif")
    with pytest.raises(DataError, match=r"cat/f\.tif: an image of floats, whose range no file says; save it"):
        _read(tmp_path)


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    for label, name in enumerate(("dark", "bright")):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(10):
            deep = np.full((8, 12), 300 + 10 * number + 40_000 * label, np.uint16)
            Image.fromarray(deep).save(tmp_path / "scans" / name / f"{number}.png")
    Image.fromarray(np.full((8, 12), 7, np.uint8)).save(tmp_path / "scans" / "dark" / "8bits.png")
    settings = DataSettings(source=str(tmp_path / "scans"), size=(8, 12), augment="none")
    dataset = load_data(settings)
    assert (dataset.scale, dataset.channels) == (65535.0, 1)
    every = torch.cat([split.images for split in (dataset.train, dataset.search, dataset.test)])
    values = {300 + 10 * number + 40_000 * label for number in range(10) for label in (0, 1)}
    assert set(torch.unique(every).tolist()) == {*values, 7 * 257}
    normalised = dataset.normalise(dataset.train.images)
    assert (float(normalised.mean()), float(normalised.std(correction=0))) == pytest.approx((0, 1), abs=1e-4)
    with pytest.raises(
        DataError, match=r"16 bits are held in memory, and these would take .* raise data.memory"
    ):
        load_data(replace(settings, memory_gb=0.0))


def test_empty_class(tmp_path: Path) -> None:
    _fill(tmp_path)
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match="every class needs at least 3 images to be split, but 'emu' has 0"):
        load_data(DataSettings(source=str(tmp_path)))


def test_one_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only one class, 'cat'; at least two are needed"):
        _read(_fill(tmp_path, ("cat",)))


def test_unknown_test_class(tmp_path: Path) -> None:
    _fill(tmp_path / "train")
    _fill(tmp_path / "test", ("cat", "emu"))
    with pytest.raises(DataError, match=r"test: no training images for 'emu'; the classes are cat, dog"):
        _read(tmp_path)


def test_no_training_pictures(tmp_path: Path) -> None:
    _fill(tmp_path / "test")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(DataError, match="there are no training images"):
        _read(tmp_path)
