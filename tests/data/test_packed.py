"""JPEG files packed into an .npz, made and real."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.real_data import CIFAR10_FILE

from dynnas.data.load import load_data
from dynnas.data.sources import find
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings

needs_real = pytest.mark.skipif(not CIFAR10_FILE.is_file(), reason=f"{CIFAR10_FILE} is not here")


def _jpeg(shade: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, 0)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _pack(files: list[bytes], part: str) -> dict[str, np.ndarray]:
    return {
        f"{part}_jpeg": np.frombuffer(b"".join(files), np.uint8),
        f"{part}_offsets": np.cumsum([0, *map(len, files)]),
        f"{part}_labels": (np.arange(len(files)) % 2).astype(np.uint8),
    }


def _arrays() -> dict[str, np.ndarray]:
    shades = range(0, 200, 20)
    return _pack([_jpeg(s) for s in shades], "train") | _pack([_jpeg(s) for s in (5, 250)], "test")


def _save(path: Path, arrays: dict[str, np.ndarray]) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_read(tmp_path: Path) -> None:
    raw = find.read(_save(tmp_path / "made_jpeg.npz", _arrays()), Progress())
    assert raw.test is not None
    assert (raw.name, raw.class_names) == ("made", ("0", "1"))
    assert raw.train.images.shape == (10, 3, 8, 8)
    assert raw.train.images[:, 0].mean((1, 2)) == pytest.approx(np.arange(0, 200, 20), abs=3)
    assert raw.test.images[:, 1].mean((1, 2)) == pytest.approx([250, 5], abs=3)
    assert raw.test.labels.tolist() == [0, 1]


def test_class_names_may_be_in_the_file(tmp_path: Path) -> None:
    arrays = _arrays() | {"classes": np.array(["cat", "dog"])}
    assert find.read(_save(tmp_path / "made.npz", arrays), Progress()).class_names == ("cat", "dog")


def test_without_test_images(tmp_path: Path) -> None:
    arrays = {key: array for key, array in _arrays().items() if key.startswith("train")}
    assert find.read(_save(tmp_path / "made.npz", arrays), Progress()).test is None


def test_the_second_time_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "made.npz", _arrays())
    first = find.read(path, Progress())
    monkeypatch.setattr(Image, "open", None)
    assert find.read(path, Progress()).train.images.tolist() == first.train.images.tolist()


def test_a_changed_file_is_decoded_anew(tmp_path: Path) -> None:
    path = _save(tmp_path / "made.npz", _arrays())
    find.read(path, Progress())
    _save(tmp_path / "made.npz", _arrays() | _pack([_jpeg(90)] * 4, "train"))
    assert len(find.read(path, Progress()).train) == 4


def _broken(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    start, end = arrays["train_offsets"][3:5]
    arrays["train_jpeg"] = arrays["train_jpeg"].copy()
    arrays["train_jpeg"][start + 10 : end] = 0
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (_broken(_arrays()), r"made\.npz: train image 3: not a readable image \(.*\); replace or remove it"),
        (
            _arrays() | _pack([_jpeg(1), _jpeg(2, (9, 9))], "test"),
            r"test image 1 is \(3, 9, 9\) .* but image 0 is \(3, 8, 8\); make all alike",
        ),
        (_arrays() | {"train_offsets": np.arange(3)}, r"train_offsets must rise from 0 to the \d+ bytes"),
        (_arrays() | {"test_offsets": np.arange(0)}, r"test_offsets must rise from 0 to the \d+ bytes"),
        (_arrays() | {"test_labels": np.zeros(5, int)}, "2 test images but 5 labels; the file is incomplete"),
        (
            _arrays() | {"classes": np.array(["one"])},
            "training labels reach from 0 to 1 but .* 1 classes",
        ),
        ({"train_jpeg": np.zeros(3, np.uint8)}, r"has train_jpeg but no train_offsets; make or fetch"),
    ],
)
def test_damaged(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = _save(tmp_path / "made.npz", arrays)
    with pytest.raises(DataError, match=message):
        find.read(path, Progress())


@needs_real
def test_the_first_images_of_real_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(CIFAR10_FILE) as archive:
        arrays = {}
        for part, count in (("train", 300), ("test", 60)):
            offsets = archive[f"{part}_offsets"][: count + 1]
            arrays[f"{part}_offsets"] = offsets
            arrays[f"{part}_jpeg"] = archive[f"{part}_jpeg"][: offsets[-1]]
            arrays[f"{part}_labels"] = archive[f"{part}_labels"][:count]
    monkeypatch.setenv("DYNNAS_DATA", str(tmp_path))
    _save(tmp_path / "cifar10_jpeg.npz", arrays)
    data = load_data(DataSettings(source="cifar10"))
    assert (data.name, data.channels, data.task.outputs, data.size) == ("cifar10", 3, 10, (32, 32))
    assert data.task.names[-1] == "truck"
    assert (len(data.train), len(data.search), len(data.test)) == (270, 30, 60)
    assert data.mean == pytest.approx((0.49, 0.48, 0.45), abs=0.03)
    assert data.train_batch(0, 0, 0, 64)[0].shape == (64, 3, 32, 32)


@pytest.mark.slow
@needs_real
def test_real_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNNAS_DATA", str(CIFAR10_FILE.parent))
    data = load_data(DataSettings(source="cifar10"))
    for split, each in ((data.train, 4500), (data.search, 500), (data.test, 1000)):
        assert split.targets.bincount().tolist() == [each] * 10
