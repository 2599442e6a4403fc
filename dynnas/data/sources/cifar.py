"""CIFAR-10 as released (https://www.cs.toronto.edu/~kriz/cifar.html): python or binary, folder or archive."""

from __future__ import annotations

import codecs
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.data.raw import Labelled, RawData
from dynnas.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_PYTHON = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_BINARY = tuple(f"{file}.bin" for file in _PYTHON)
_PIXELS = 3 * 32 * 32


def release(path: Path) -> Path | None:
    """Return the release's folder or archive: `path` itself, or one of the usual names in it."""
    if path.is_file():
        return path if _is_archive(path) else None
    for folder in (path, *(path / name for name in _FOLDERS)):
        if any((folder / file).is_file() for file in (*_PYTHON, *_BINARY)):
            return folder
    return next((path / name for name in ARCHIVES if (path / name).is_file()), None)


def _is_archive(path: Path) -> bool:
    """Return whether `path` is a tar archive with a file of the release, or a damaged one of its name."""
    if not path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return False
    try:
        with tarfile.open(path) as archive:
            return any(Path(member.name).name in (*_PYTHON, *_BINARY) for member in archive)
    except (OSError, EOFError, zlib.error, tarfile.TarError):
        return path.name in ARCHIVES


def read(path: Path) -> RawData:
    """Read CIFAR-10 from the folder or archive `path`.

    Raises:
        DataError: a file of the release is missing or damaged.
    """
    contents = _contents(path)
    python = any(file in contents for file in _PYTHON)
    files = _PYTHON if python else _BINARY
    if missing := [file for file in files if file not in contents]:
        raise DataError(f"{path}: {', '.join(missing)} of CIFAR-10 missing; fetch the release again")
    parse = _parse_python if python else _parse_binary
    batches = [_parse(parse, contents[file], f"{path}: {file}") for file in files]
    images, labels = (np.concatenate(parts) for parts in zip(*batches[:-1], strict=True))
    return RawData(
        name="cifar10",
        where=str(path),
        class_names=CLASSES,
        train=Labelled(images, labels),
        test=Labelled(*batches[-1]),
    )


def _contents(path: Path) -> dict[str, bytes]:
    """Return the release's data files by name."""
    wanted = (*_PYTHON, *_BINARY)
    if path.is_dir():
        return {file: (path / file).read_bytes() for file in wanted if (path / file).is_file()}
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                content = archive.extractfile(member) if name in wanted else None
                if content:
                    contents[name] = content.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path}: not a readable archive ({error}); fetch it again") from error
    return contents


def _parse(
    parse: Callable[[bytes], tuple[np.ndarray, np.ndarray]], content: bytes, where: str
) -> tuple[np.ndarray, np.ndarray]:
    try:
        images, labels = parse(content)
        return images.reshape(-1, 3, 32, 32), labels.astype(np.int64)
    except Exception as error:  # A damaged pickle can raise anything.
        raise DataError(f"{where} is not a batch of CIFAR-10 ({error}); fetch the release again") from error


def _parse_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0]


def _parse_python(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    images = batch["data"]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise ValueError("its data are not an array of bytes")
    return images, np.array(batch["labels"], np.int64)


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_PICKLED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 pickles bytes for Python 2
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; refuses a pickle that asks for more, so that none can run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _PICKLED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs") from None
