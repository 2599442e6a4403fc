"""Data sets by name or path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dynnas.data.raw import RawData
from dynnas.data.sources import digits, idx
from dynnas.errors import DataError

NAMES = ("digits", "fashion-mnist", "cifar10")
_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def read(source: str) -> RawData:
    """The data set that `source` names or that lies at the path `source`.

    Raises:
        DataError: there is none, or it cannot be read; the message says how to get or mend it.
    """
    if source == "digits":
        return digits.read()
    if source == "fashion-mnist":
        return _fashion_mnist()
    path = Path(source).expanduser()
    if path.is_dir() and idx.recognises(path):
        return idx.read(path, path.name)
    raise DataError(f"data.source: {source!r} is not a data set")


def _fashion_mnist() -> RawData:
    places = [_DEBIAN_FASHION_MNIST, *_places("fashion-mnist")]
    for folder in places:
        if idx.recognises(folder):
            return idx.read(folder, "fashion-mnist")
    raise DataError(
        "data.source: Fashion-MNIST is not on this machine. On Debian and Ubuntu:"
        " apt-get install dataset-fashion-mnist. Elsewhere put"
        f" {', '.join(f'{file}.gz' for file in idx.FILES)} into one of: {', '.join(map(str, places))}"
    )


def _places(name: str) -> Iterator[Path]:
    if root := os.environ.get("DYNNAS_DATA"):
        yield Path(root).expanduser() / name
    yield Path("data") / name
