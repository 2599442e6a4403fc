"""Data sets by name or path."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from dynnas.data.raw import RawData
from dynnas.data.reading import Reading
from dynnas.data.sources import arrays, cifar, digits, folder, idx, packed, scenes, shards, table
from dynnas.data.sources.labelled import read_labelled
from dynnas.errors import DataError
from dynnas.files import data_folders
from dynnas.progress import Progress
from dynnas.registry import Registry

SOURCES: Registry[Callable[[Progress], RawData]] = Registry("data set", group="dynnas.data", error=DataError)
"""The readers of data sets that have a name, those of plug-ins (entry points `dynnas.data`) among them."""

_INSTALLED_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # by Debian's package
_PACKED_CIFAR = "cifar10_jpeg.npz"
_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def read(source: str, progress: Progress, reading: Reading | None = None) -> RawData:
    """Read the data set that `source` names or that lies at the path `source`.

    Args:
        source: a name of `SOURCES`, or a path.
        progress: is told how far it is.
        reading: how the pictures of a folder are read.

    Raises:
        DataError: there is none, or it cannot be read; the message says how to get or mend it.
    """
    reading = reading or Reading()
    found = SOURCES[source](progress) if source in SOURCES else _read_path(_path(source), progress, reading)
    if reading.size not in (None, found.train.images.shape[2:]):
        raise DataError(
            f"data.size: the images of {found.where} are taken as they are, "
            f"{' x '.join(map(str, found.train.images.shape[2:]))} pixels; leave it out, or give a folder of "
            "pictures"
        )
    return found


def _path(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(source, list(SOURCES), n=1)
        raise DataError(
            f"data.source: no data set and no path is called {source!r}"
            + (f"; did you mean {near[0]}?" if near else ".")
            + f" Known are {', '.join(SOURCES)}, and the paths of folders and files"
        )
    return path


def _read_path(path: Path, progress: Progress, reading: Reading) -> RawData:
    if release := cifar.release(path):
        return cifar.read(release)
    if path.suffix == ".npz":
        contents = arrays.load(path)
        if packed.recognises(contents):
            return packed.read(path, contents, progress)
        return arrays.read(path, contents)
    if table.recognises(path):
        found = table.read(path, "classification")
        return _of_files(path, path.parent, found, progress, reading)
    for place in (path, path / "raw", path / "MNIST" / "raw"):  # where torchvision puts them
        if idx.recognises(place):
            return idx.read(place, path.resolve().name)
    if folder.recognises(path):
        return folder.read(path, progress, reading)
    if shards.recognises(path):
        written, found = shards.read(path, progress)
        return _of_files(path, written, found, progress, reading)
    if path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz")):
        raise DataError(f"{path}: an archive, and not CIFAR-10's; unpack it and give the folder")
    raise DataError(
        f"{path}: not a form of data that is known. A folder may hold the IDX files of MNIST, the CIFAR-10"
        " release, one folder of pictures for each class, known by their endings, or shards (.tar as"
        " webdataset has them, .parquet); a file may be an .npz, a .csv of paths and labels, a shard, or"
        " CIFAR-10's .tar.gz"
    )


def _of_files(path: Path, folder: Path, found: table.Table, progress: Progress, reading: Reading) -> RawData:
    parts = read_labelled(folder, found.parts, reading, progress)
    tests, searched = parts.get("test"), parts.get("search")
    return RawData(
        path.resolve().stem,
        str(path),
        found.names,
        parts["train"],
        tests,
        searched,
        left_out=found.left_out,
    )


@SOURCES.register("scenes")
def _scenes(progress: Progress) -> RawData:
    return scenes.read()


@SOURCES.register("digits")
def _digits(progress: Progress) -> RawData:
    return digits.read()


@SOURCES.register("fashion-mnist")
def _fashion_mnist(progress: Progress) -> RawData:
    places = [_INSTALLED_FASHION_MNIST, *(root / "fashion-mnist" for root in _roots())]
    for place in places:
        if idx.recognises(place):
            return idx.read(place, "fashion-mnist", _FASHION_CLASSES)
    raise DataError(
        "data.source: Fashion-MNIST is not on this machine. On Debian and Ubuntu:"
        " apt-get install dataset-fashion-mnist. Elsewhere put"
        f" {', '.join(f'{file}.gz' for file in idx.FILES)} into one of: {', '.join(map(str, places))}"
    )


@SOURCES.register("cifar10")
def _cifar10(progress: Progress) -> RawData:
    places = [place for root in _roots() for place in (root / "cifar10", root)]
    for place in places:
        if release := cifar.release(place):
            return cifar.read(release)
        if (place / _PACKED_CIFAR).is_file():
            path = place / _PACKED_CIFAR
            return packed.read(path, arrays.load(path), progress, cifar.CLASSES)
    raise DataError(
        "data.source: CIFAR-10 is not on this machine. Fetch https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
        f" and put it, unpacked or not, or {_PACKED_CIFAR}, into one of: {', '.join(map(str, places))};"
        " $DYNNAS_DATA may name another folder"
    )


def _roots() -> list[Path]:
    """Return the folders in which data sets may lie."""
    return [*data_folders(), Path("data")]
