""".npz files of arrays."""

from pathlib import Path

import numpy as np
import pytest

from dynnas.data.augment import Augmentation
from dynnas.data.load import load_data
from dynnas.data.raw import RawData
from dynnas.data.sources import find
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings

_IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
_IMAGES[0, 0, :2] = 0, 255
_LABELS = np.arange(40) % 4


def _read(path: Path, **arrays: np.ndarray | list) -> RawData:
    np.savez(path / "made.npz", **arrays)
    return find.read(str(path / "made.npz"), Progress())


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("x_{}", "y_{}"),
        ("X_{}", "Y_{}"),
        ("{}_x", "{}_y"),
        ("{}_images", "{}_labels"),
        ("images_{}", "labels_{}"),
        ("{}_data", "{}_targets"),
    ],
)
def test_spellings_of_two_parts(tmp_path: Path, images: str, labels: str) -> None:
    parts = {"train": slice(0, 32), "test": slice(32, 40)}
    arrays = {images.format(part): _IMAGES[rows] for part, rows in parts.items()}
    arrays |= {labels.format(part): _LABELS[rows] for part, rows in parts.items()}
    raw = _read(tmp_path, **arrays)
    assert raw.test is not None
    assert (raw.name, raw.class_names) == ("made", tuple("0123"))
    assert raw.train.images[:, 0].tolist() == _IMAGES[:32].tolist()
    assert raw.test.images[:, 0].tolist() == _IMAGES[32:].tolist()
    assert raw.test.labels.tolist() == _LABELS[32:].tolist()


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target")]
)
def test_spellings_of_one_part(tmp_path: Path, images: str, labels: str) -> None:
    raw = _read(tmp_path, **{images: _IMAGES, labels: _LABELS})
    assert raw.test is None
    assert len(raw.train) == 40


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [True, False])
def test_channels_first_or_last(tmp_path: Path, channels: int, last: bool) -> None:
    expected = np.stack([_IMAGES] * channels, 1) + np.arange(channels, dtype=np.uint8)[:, None, None]
    raw = _read(tmp_path, images=expected.transpose(0, 2, 3, 1) if last else expected, labels=_LABELS)
    assert raw.train.images.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "images",
    [_IMAGES / 255, (_IMAGES / 255).astype(np.float32), _IMAGES.astype(float), _IMAGES.astype(np.int64)],
    ids=["unit", "unit32", "float", "int"],
)
def test_kinds_of_values(tmp_path: Path, images: np.ndarray) -> None:
    raw = _read(tmp_path, images=images, labels=_LABELS)
    assert raw.train.images.dtype == np.uint8
    assert raw.train.images[:, 0].tolist() == _IMAGES.tolist()


def test_truth_values_are_black_and_white(tmp_path: Path) -> None:
    raw = _read(tmp_path, images=_IMAGES > 100, labels=_LABELS)
    assert raw.train.images[:, 0].tolist() == np.where(_IMAGES > 100, 255, 0).tolist()


def test_dark_test_images_are_scaled_like_the_training_images(tmp_path: Path) -> None:
    arrays = {"x_train": _IMAGES * 1.0, "y_train": _LABELS, "x_test": _IMAGES[:4] // 255 * 1.0}
    raw = _read(tmp_path, **arrays, y_test=_LABELS[:4])
    assert raw.test is not None
    assert raw.test.images.max() == 1


def test_labels_of_any_value(tmp_path: Path) -> None:
    values = np.array([-5, 3, 100, 7])
    raw = _read(tmp_path, images=_IMAGES, labels=values[_LABELS][:, None])
    assert raw.class_names == ("-5", "3", "7", "100")
    assert raw.train.labels.tolist() == np.array([0, 1, 3, 2])[_LABELS].tolist()


def test_labels_in_words(tmp_path: Path) -> None:
    words = np.array(["dog", "cat", "emu", "ape"])[_LABELS]
    raw = _read(tmp_path, x_train=_IMAGES, y_train=words, x_test=_IMAGES[:2], y_test=["emu", "ape"])
    assert raw.test is not None
    assert raw.class_names == ("ape", "cat", "dog", "emu")
    assert raw.train.labels[:4].tolist() == [2, 1, 3, 0]
    assert raw.test.labels.tolist() == [3, 0]


def test_load_data(tmp_path: Path) -> None:
    _read(tmp_path, images=_IMAGES, labels=_LABELS)
    data = load_data(DataSettings(source=str(tmp_path / "made.npz"), search_images=8))
    assert (len(data.train), len(data.search), len(data.test)) == (24, 8, 8)
    assert data.augmentation == Augmentation(shift=1)  # the classes are numbers: signs, for all that is known
    plain = load_data(DataSettings(source=str(tmp_path / "made.npz"), augment="none"))
    assert plain.augmentation == Augmentation()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": _IMAGES}, r"made\.npz: arrays pixels are not a data set; name them x_train and y_train"),
        ({}, r"arrays \(none\) are not a data set"),
        ({"x_train": _IMAGES}, "has x_train but none of y_train, train_y"),
        ({"y_test": _LABELS, "x": _IMAGES, "y": _LABELS}, "has y_test but none of x_test, test_x"),
        ({"images": _IMAGES, "labels": _LABELS[:9]}, "40 training images but 9 labels"),
        ({"images": _IMAGES[:0], "labels": _LABELS[:0]}, "there are no training images"),
        ({"images": _IMAGES.reshape(40, 36), "labels": _LABELS}, r"images is \(40, 36\); needed are images"),
        ({"images": np.zeros((9, 5, 6, 7)), "labels": _LABELS[:9]}, r"images is \(9, 5, 6, 7\); needed"),
        ({"images": _IMAGES - 300.0, "labels": _LABELS}, r"reach from -300\.0 to -45\.0; needed is 0\.\.255"),
        ({"images": _IMAGES + np.nan, "labels": _LABELS}, "image values reach from nan to nan"),
        ({"images": _IMAGES * 1j, "labels": _LABELS}, "images of complex128; save them as uint8"),
        ({"images": _IMAGES, "labels": np.eye(40)}, r"labels is float64 \(40, 40\); needed is an integer"),
        ({"images": _IMAGES, "labels": _LABELS * 0}, "only one class, '0'; at least two are needed"),
        (
            {"x_train": _IMAGES, "y_train": _LABELS, "x_test": _IMAGES[:2], "y_test": [3, 4]},
            r"test labels \[4\] do not occur among the training labels \[0, 1, 2, 3\]",
        ),
        (
            {"x_train": _IMAGES, "y_train": _LABELS, "x_test": _IMAGES[:2, :4, :4], "y_test": [3, 2]},
            r"training images are 1 x 6 x 6 .* but test images 1 x 4 x 4 .*; make them alike",
        ),
        ({"images": _IMAGES, "labels": np.array([{}] * 40)}, r"not a readable \.npz .*allow_pickle"),
    ],
)
def test_unusable(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, **arrays)


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "made.npz").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"made\.npz: not a readable \.npz of arrays \(it is no zip"):
        find.read(str(tmp_path / "made.npz"), Progress())


def test_damaged_archive(tmp_path: Path) -> None:
    _read(tmp_path, images=_IMAGES, labels=_LABELS)
    path = tmp_path / "made.npz"
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"made\.npz: not a readable \.npz of arrays \(Bad CRC"):
        find.read(str(path), Progress())


@pytest.mark.parametrize("shape", [(40, 5, 6), (40, 5, 6, 1), (40, 1, 5, 6)])
def test_images_need_not_be_square(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.arange(40 * 30, dtype=np.uint32).astype(np.uint8).reshape(shape)
    raw = _read(tmp_path, images=images, labels=_LABELS)
    assert raw.train.images.tolist() == images.reshape(40, 1, 5, 6).tolist()
