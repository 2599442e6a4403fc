"""IDX files, made and real."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from dynnas.data.augment import Augmentation
from dynnas.data.load import load_data
from dynnas.data.sources import find, idx
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings

_INSTALLED = Path("/usr/share/datasets/fashion-mnist")
_SIZES = {"train": 40, "t10k": 20}


def _idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def _write(folder: Path, compress: bool = True) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in _SIZES.items():
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        content = _idx(array)
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    return arrays


@pytest.mark.parametrize("compress", [True, False])
def test_read(tmp_path: Path, compress: bool) -> None:
    arrays = _write(tmp_path, compress)
    raw = find.read(str(tmp_path), Progress())
    assert raw.test is not None
    assert raw.train.images[:, 0].tolist() == arrays["train-images-idx3-ubyte"].tolist()
    assert raw.test.images[:, 0].tolist() == arrays["t10k-images-idx3-ubyte"].tolist()
    assert raw.train.labels.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert raw.test.labels.tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    assert (raw.name, raw.class_names) == (tmp_path.name, tuple("0123456789"))


def _remove(path: Path) -> None:
    path.unlink()


def _truncate_archive(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _truncate(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def _no_idx(path: Path) -> None:
    path.write_bytes(gzip.compress(b"<html>not found</html>"))


def _no_gzip(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (_remove, idx.FILES[3], r"t10k-labels-idx1-ubyte \(or with \.gz\) missing; put all four files there"),
        (
            _truncate_archive,
            idx.FILES[0],
            r"train-images-idx3-ubyte\.gz: unreadable .*; fetch the file again",
        ),
        (_truncate, idx.FILES[0], r"train-images-\S+: 1439 bytes where \(40, 6, 6\) needs 1440; fetch"),
        (_no_idx, idx.FILES[1], r"train-labels-\S+: not an IDX file of bytes in 1 dimension"),
        (_no_gzip, idx.FILES[2], r"t10k-images-\S+: unreadable \(Not a gzipped file"),
    ],
)
def test_damaged(tmp_path: Path, damage, file: str, message: str) -> None:
    _write(tmp_path)
    damage(tmp_path / f"{file}.gz")
    with pytest.raises(DataError, match=message):
        idx.read(tmp_path, "made")


def test_fewer_labels_than_images(tmp_path: Path) -> None:
    _write(tmp_path, compress=False)
    (tmp_path / idx.FILES[1]).write_bytes(_idx(np.zeros(39, np.uint8)))
    with pytest.raises(DataError, match="40 training images but 39 labels; the file is incomplete"):
        idx.read(tmp_path, "made")


@pytest.mark.skipif(not _INSTALLED.is_dir(), reason="Debian's dataset-fashion-mnist is missing")
def test_fashion_mnist() -> None:
    data = load_data(DataSettings(source="fashion-mnist"))
    assert (data.name, data.channels, data.task.outputs, data.size) == ("fashion-mnist", 1, 10, (28, 28))
    assert data.task.names[:2] == ("T-shirt/top", "Trouser")
    for split, each in ((data.train, 5500), (data.search, 500), (data.test, 1000)):
        assert split.targets.bincount().tolist() == [each] * 10
    assert data.mean == pytest.approx((0.2860,), abs=5e-4)  # as published for the training images
    assert data.std == pytest.approx((0.3530,), abs=5e-4)
    assert data.augmentation == Augmentation(shift=3, flip=True)
