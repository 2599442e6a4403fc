"""CIFAR-10's release in all its forms, made small."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dynnas.data.sources import find
from dynnas.errors import DataError
from dynnas.progress import Progress

_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_COUNT = 10  # images in a batch


def _batch(index: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (_COUNT, 3072), dtype=np.uint8), rng.permutation(10).tolist()


def _by_python_2(images: np.ndarray, labels: list[int]) -> bytes:
    """The batch as Python 2 pickled it: byte strings, and integers for numpy's flags."""

    def text(content: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(content)) + content

    def integer(number: int) -> bytes:
        return b"J" + struct.pack("<i", number)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
        + integer(0)
        + b"\x85"
        + text(b"b")
        + b"tR"
    )
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + integer(0) + integer(1) + b"tR"
    dtype += b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    shape = b"".join(map(integer, images.shape)) + b"\x86"
    array += b"(" + integer(1) + shape + dtype + b"\x89" + text(images.tobytes()) + b"tb"
    items = text(b"data") + array + text(b"labels") + b"](" + b"".join(map(integer, labels)) + b"e"
    return b"\x80\x02}(" + items + b"u."


def _by_python_3(images: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({"data": images, "labels": labels}, protocol=2)


def _binary(images: np.ndarray, labels: list[int]) -> bytes:
    return np.column_stack([np.array(labels, np.uint8), images]).tobytes()


def _write(folder: Path, form=_by_python_2, suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, file in enumerate(_BATCHES):
        (folder / f"{file}{suffix}").write_bytes(form(*_batch(index)))
    return folder


def _check(source: Path) -> None:
    raw = find.read(str(source), Progress())
    assert raw.test is not None
    assert raw.name == "cifar10"
    assert raw.class_names[3] == "cat"
    images = np.concatenate([_batch(index)[0] for index in range(5)])
    assert raw.train.images.shape == (5 * _COUNT, 3, 32, 32)
    assert raw.train.images.reshape(-1, 3072).tolist() == images.tolist()
    assert raw.train.labels.tolist() == [label for index in range(5) for label in _batch(index)[1]]
    assert raw.test.images.reshape(-1, 3072).tolist() == _batch(5)[0].tolist()
    assert raw.test.labels.tolist() == _batch(5)[1]


@pytest.mark.parametrize(
    ("form", "suffix"), [(_by_python_2, ""), (_by_python_3, ""), (_binary, ".bin")], ids=["py2", "py3", "bin"]
)
def test_folder(tmp_path: Path, form, suffix: str) -> None:
    _check(_write(tmp_path / "cifar", form, suffix))


@pytest.mark.parametrize(("form", "suffix"), [(_by_python_2, ""), (_binary, ".bin")], ids=["py2", "bin"])
def test_archive(tmp_path: Path, form, suffix: str) -> None:
    folder = _write(tmp_path / "cifar-10-batches", form, suffix)
    (folder / "readme.html").write_text("not a batch")
    path = tmp_path / "cifar-10.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    _check(path)


def test_folder_above_the_release(tmp_path: Path) -> None:
    _write(tmp_path / "cifar-10-batches-py")
    _check(tmp_path)


def test_archive_in_a_folder(tmp_path: Path) -> None:
    _write(tmp_path / "made")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made", "cifar-10-batches-py")
    _check(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "data_batch_1 of CIFAR-10 missing; fetch the release again"),
        (
            _by_python_2(*_batch(0))[:-100],
            r"data_batch_1 is not a batch of CIFAR-10 .*; fetch the release again",
        ),
        (b"", "data_batch_1 is not a batch"),
        (pickle.dumps({"labels": [1]}), r"data_batch_1 is not a batch of CIFAR-10 \('data'\)"),
        (pickle.dumps({"data": [1], "labels": [1]}), "its data are not an array of bytes"),
        (pickle.dumps({"data": np.zeros((2, 7), np.uint8), "labels": [1, 2]}, 2), "cannot reshape"),
    ],
)
def test_missing_or_damaged_batch(tmp_path: Path, content: bytes | None, message: str) -> None:
    _write(tmp_path)
    batch = tmp_path / "data_batch_1"
    batch.unlink() if content is None else batch.write_bytes(content)
    with pytest.raises(DataError, match=message):
        find.read(str(tmp_path), Progress())


def test_a_binary_batch_of_the_wrong_length(tmp_path: Path) -> None:
    _write(tmp_path, _binary, ".bin")
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 3074)
    with pytest.raises(DataError, match=r"test_batch\.bin is not a batch of CIFAR-10"):
        find.read(str(tmp_path), Progress())


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_can_run_no_code(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(_Attack(tmp_path / "touched")))
    with pytest.raises(DataError, match=r"data_batch_2 .*\(it asks for \S+, which no array needs"):
        find.read(str(tmp_path), Progress())
    assert not (tmp_path / "touched").exists()


def test_damaged_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(_write(tmp_path / "made"))
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(buffer.getvalue()[:20000])
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: not a readable archive \(.*\); fetch it again"):
        find.read(str(path), Progress())
