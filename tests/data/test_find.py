"""Data sets by name and path, and what is said where there are none."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from dynnas.data.sources import find, idx
from dynnas.errors import DataError
from dynnas.progress import Progress


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without data, on a machine without installed data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find, "_INSTALLED_FASHION_MNIST", tmp_path / "nowhere")
    return tmp_path


def _put_fashion_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in idx.FILES:
        array = np.zeros((20, 4, 4), np.uint8) if "images" in file else (np.arange(20) % 10).astype(np.uint8)
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{file}.gz").write_bytes(gzip.compress(header + array.tobytes()))


def _put_cifar10(folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (folder / file).write_bytes(b"".join(bytes([label]) + bytes(3072) for label in range(10)))


def test_the_names(empty_machine: Path) -> None:
    _put_fashion_mnist(empty_machine / "data/fashion-mnist")
    _put_cifar10(empty_machine / "data/cifar10")
    for name in find.SOURCES:
        assert find.read(name, Progress()).name == name


@pytest.mark.parametrize(
    "place",
    ["data/fashion-mnist", "elsewhere/fashion-mnist", "nowhere"],
    ids=["here", "variable", "installed"],
)
def test_where_fashion_mnist_is_looked_for(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("DYNNAS_DATA", str(empty_machine / "elsewhere"))
    _put_fashion_mnist(empty_machine / place)
    raw = find.read("fashion-mnist", Progress())
    assert (raw.name, raw.class_names[0]) == ("fashion-mnist", "T-shirt/top")


@pytest.mark.parametrize(
    "place",
    ["data/cifar10", "data/cifar10/cifar-10-batches-bin", "data/cifar-10-batches-bin", "elsewhere/cifar10"],
)
def test_where_cifar10_is_looked_for(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("DYNNAS_DATA", str(empty_machine / "elsewhere"))
    _put_cifar10(empty_machine / place)
    assert find.read("cifar10", Progress()).class_names[0] == "airplane"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "fashion-mnist",
            r"apt-get install dataset-fashion-mnist\. .*train-images-idx3-ubyte\.gz.* data/fash",
        ),
        ("cifar10", r"Fetch https://\S+/cifar-10-python\.tar\.gz and put it, .* data/cifar10, data"),
        ("fashion_mnist", r"called 'fashion_mnist'; did you mean fashion-mnist\? Known are scenes, digits"),
        ("imagenet", r"called 'imagenet'\. Known are scenes, digits, fashion-mnist, cifar10, and the paths"),
        (".", "not a form of data that is known. A folder may hold the IDX files"),
    ],
)
@pytest.mark.usefixtures("empty_machine")
def test_missing(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find.read(source, Progress())


def test_a_file_of_no_known_form(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("1,2,3")
    with pytest.raises(DataError, match=r"images\.txt: not a form of data that is known"):
        find.read(str(tmp_path / "images.txt"), Progress())
