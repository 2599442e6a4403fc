"""Pictures in tars as webdataset writes them, or in Parquet files as Hugging Face keeps them.

A tar holds, for each picture, files of one name: the picture and `name.cls`, its class as a number or a
word, or `name.json` with a `label`. A Parquet file has a column of pictures (`image`, `img`: bytes, or a
struct with `bytes`) and one of classes (`label`, `labels`, `class`). Files are of the split that their name
begins with: `train-0000.tar`, `validation-00000-of-00001.parquet`; others are for training. Class names lie
in `classes.txt` or `classnames.txt`, a line each, or in a Parquet file's own description.

Pictures are written out once, into the cache folder, and then read as those of any folder: decoded into
memory, or streamed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.data.sources.labelled import LabelledFiles
from dynnas.data.sources.names import split_of
from dynnas.data.sources.pictures import SUFFIXES
from dynnas.data.sources.table import Table
from dynnas.errors import DataError, require
from dynnas.files import cache_folder
from dynnas.progress import Progress

TAR, PARQUET = ".tar", ".parquet"
_IMAGES, _LABELS = ("image", "img", "picture"), ("label", "labels", "class", "fine_label", "target")
_NAMES = ("classes.txt", "classnames.txt")
_INDEX = "index.json"


@dataclass(frozen=True)
class _Sample:
    """A picture with its class, which is a number or a word.

    Attributes:
        where: it was found, for messages.
    """

    content: bytes
    label: int | str
    where: str


def shards_of(path: Path) -> tuple[Path, ...]:
    """Return the tars or Parquet files at a path: itself, or those in the folder or its folder `data`."""
    if path.is_file():
        return (path,) if path.suffix == PARQUET or (path.suffix == TAR and _is_webdataset(path)) else ()
    for folder in (path, path / "data"):
        for ending in (PARQUET, TAR):
            found = sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []
            if found and (ending == PARQUET or _is_webdataset(found[0])):
                return tuple(found)
    return ()


def recognises(path: Path) -> bool:
    """Return whether there are such files."""
    return bool(shards_of(path))


def read(path: Path, progress: Progress) -> tuple[Path, Table]:
    """Write the pictures out, unless that was done, and return their folder and what is in it.

    Raises:
        DataError: a file is damaged, a picture has no class, or the classes are of two kinds.
        MissingExtraError: pyarrow is not installed.
    """
    files = shards_of(path)
    folder = cache_folder() / f"shards-{_digest(files)}"
    if not (folder / _INDEX).is_file():
        _write(files, folder, progress)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    names, labels = _classes(path, files, index)
    parts, start = {}, 0
    for part, rows in index["parts"].items():
        pictures = [folder / part / name for name, _ in rows]
        parts[part] = LabelledFiles(pictures, labels[start : start + len(rows)])
        start += len(rows)
    if "train" not in parts:
        raise DataError(f"{path}: no file is of the training split; call it train-0000{files[0].suffix}")
    if "search" in parts and "test" not in parts:
        parts["test"] = parts.pop("search")
    return folder, Table(names, parts)


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    beside = [file.parent / name for file in files[:1] for name in _NAMES]
    for file in (*files, *(each for each in beside if each.is_file())):
        stat = file.stat()
        digest.update(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _write(files: Sequence[Path], folder: Path, progress: Progress) -> None:
    """Write every picture into the folder of its split; the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[tuple[str, int | str]]] = {}
    described: list[str] = []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        with progress.task("writing out pictures", len(files)) as task:
            for file in files:
                part = split_of(file.name.split("-")[0].split(".")[0]) or "train"
                rows = parts.setdefault(part, [])
                Path(made, part).mkdir(exist_ok=True)
                described = described or _described(file)
                for sample in _samples(file):
                    name = f"{len(rows):08}{_ending(sample)}"
                    Path(made, part, name).write_bytes(sample.content)
                    rows.append((name, sample.label))
                task.advance()
        ordered = {part: parts[part] for part in ("train", "search", "test") if parts.get(part)}
        index = {"parts": ordered, "classes": described}
        Path(made, _INDEX).write_text(json.dumps(index), encoding="utf-8")
        whole = Path(made)
        if folder.exists():  # an index was lost
            shutil.rmtree(folder)
        whole.rename(folder)
        whole.mkdir()  # for the context manager to remove


def _ending(sample: _Sample) -> str:
    """Return the ending of a picture, by its first bytes."""
    known = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"BM": ".bmp", b"RI": ".webp"}
    known |= {b"II": ".tif", b"MM": ".tif"}
    ending = known.get(sample.content[:2])
    if ending is None:
        raise DataError(
            f"{sample.where}: not a readable image (its first bytes are of no known form); mend it"
        )
    return ending


def _samples(file: Path) -> Iterator[_Sample]:
    return _of_parquet(file) if file.suffix == PARQUET else _of_tar(file)


def _is_webdataset(file: Path) -> bool:
    """Return whether the first files of a tar are a picture and what belongs to it."""
    try:
        with tarfile.open(file) as tar:
            first = []
            for member in tar:
                if member.isfile() and not Path(member.name).name.startswith("."):
                    first.append(Path(member.name))
                if len(first) == 2:
                    break
    except (tarfile.TarError, OSError):
        return False
    keys = {_key(each) for each in first}
    return len(first) == 2 and len(keys) == 1 and any(each.suffix.lower() in SUFFIXES for each in first)


def _key(name: Path) -> str:
    """Return what files of one sample have in common: the path up to the first dot of the name."""
    return str(name.with_name(name.name.partition(".")[0]))


def _of_tar(file: Path) -> Iterator[_Sample]:
    try:
        with tarfile.open(file) as tar:
            key, held = "", dict[str, bytes]()
            for member in tar:
                if not member.isfile():
                    continue
                name = Path(member.name)
                if name.name.startswith("."):  # as macOS writes beside each file
                    continue
                if _key(name) != key:
                    if held:
                        yield _sample(file, key, held)
                    key, held = _key(name), {}
                stream = tar.extractfile(member)
                assert stream is not None
                held[name.name.partition(".")[2].lower()] = stream.read()
            if held:
                yield _sample(file, key, held)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{file}: not a readable tar ({error}); make or fetch it again") from error


def _sample(file: Path, key: str, held: dict[str, bytes]) -> _Sample:
    where = f"{file}: {key}"
    found = [ending for ending in held if f".{ending}" in SUFFIXES]
    if len(found) > 1:
        raise DataError(
            f"{where} has several pictures, {', '.join(found)}; keep one, or write .seg.png and the like"
        )
    content = held[found[0]] if found else None
    if content is None:
        raise DataError(f"{where} has {', '.join(held)} but no picture; make the tar again")
    try:
        if "cls" in held:
            text = held["cls"].decode().strip()
            return _Sample(content, int(text) if text.lstrip("-").isdecimal() else text, where)
        label = json.loads(held["json"])["label"] if "json" in held else None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: its class cannot be read ({error}); write it into {key}.cls") from error
    if not isinstance(label, int | str) or isinstance(label, bool):
        raise DataError(
            f"{where} has {', '.join(held)}; its class is missing: {key}.cls, or a label in {key}.json"
        )
    return _Sample(content, label, where)


def _of_parquet(file: Path) -> Iterator[_Sample]:
    parquet = require("pyarrow.parquet", "tables")
    try:
        opened = parquet.ParquetFile(file)
        image, label = (_column(file, opened.schema_arrow.names, names) for names in (_IMAGES, _LABELS))
        row = 0
        for batch in opened.iter_batches(batch_size=256, columns=[image, label]):
            for content, own in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                where = f"{file}: row {row}"
                content = content.get("bytes") if isinstance(content, dict) else content
                if not isinstance(content, bytes) or not isinstance(own, int | str):
                    raise DataError(f"{where}: needed are a picture's bytes and a class; found {own!r}")
                yield _Sample(content, own, where)
                row += 1
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise DataError(f"{file}: not a readable Parquet file ({error}); make or fetch it again") from error


def _column(file: Path, columns: Sequence[str], names: Sequence[str]) -> str:
    found = next((name for name in names for column in columns if column.lower() == name), None)
    if found is None:
        raise DataError(
            f"{file}: has the columns {', '.join(columns)} and none of {', '.join(names)}; rename one, or "
            "read it by a function: data.source: package.module:function"
        )
    return next(column for column in columns if column.lower() == found)


def _described(file: Path) -> list[str]:
    """Return the names of classes that a Parquet file of Hugging Face says, or those beside a file."""
    for name in _NAMES:
        beside = file.parent / name
        if beside.is_file():
            return [line.strip() for line in beside.read_text(encoding="utf-8").splitlines() if line.strip()]
    if file.suffix != PARQUET:
        return []
    try:
        said = require("pyarrow.parquet", "tables").read_schema(file).metadata or {}
        features: dict[str, Any] = json.loads(said[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, OSError):
        return []
    return next(
        (list(each["names"]) for name, each in features.items() if name in _LABELS and "names" in each), []
    )


def _classes(path: Path, files: Sequence[Path], index: dict[str, Any]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of classes, and the labels of all pictures in the order of the index: int64 [N]."""
    values = [label for rows in index["parts"].values() for _, label in rows]
    if len({type(value) for value in values}) != 1:
        raise DataError(f"{path}: some classes are numbers and some are words; write all in one way")
    named = index["classes"]
    if isinstance(values[0], str):
        names = named or sorted(set(values))
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise DataError(f"{path}: the class {unknown[0]!r} is not among {', '.join(names)}; add its name")
        numbers = {name: number for number, name in enumerate(names)}
        return tuple(names), np.array([numbers[value] for value in values], np.int64)
    labels = np.array(values, np.int64)
    if named and (labels.min() < 0 or labels.max() >= len(named)):
        raise DataError(
            f"{path}: classes reach from {labels.min()} to {labels.max()}, but {len(named)} have names; "
            "number them from 0, or add names"
        )
    if named:
        return tuple(named), labels
    distinct, positions = np.unique(labels, return_inverse=True)
    return tuple(map(str, distinct.tolist())), positions.astype(np.int64)
