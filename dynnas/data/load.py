"""Loading: the `data` section of a space file becomes a data set ready for use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dynnas.data import masks, packed_masks
from dynnas.data.assemble import assemble
from dynnas.data.augment import augmentation
from dynnas.data.boxes.annotated import Annotated, splits_of
from dynnas.data.boxes.find import boxes_reader
from dynnas.data.dataset import Dataset
from dynnas.data.given import SPLITS, dataset_of, tell
from dynnas.data.raw import Labelled, words
from dynnas.data.reading import Reading, reading_of
from dynnas.data.sources import arrays, find, table
from dynnas.data.sources.labelled import LabelledFiles, read_labelled
from dynnas.data.sources.pictures import Form
from dynnas.data.split import completed, split
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings
from dynnas.tasks.importing import called, imported, is_reference
from dynnas.tasks.named_by import task_named
from dynnas.tasks.task import Task


def load_data(settings: DataSettings, progress: Progress | None = None) -> Dataset:
    """Read, check and split the data set that `settings` describe.

    Raises:
        DataError: the data are missing or unusable; the message says how to get or mend them.
    """
    progress = progress or Progress()
    if is_reference(settings.source):
        return _given(settings, progress)
    reading, path = reading_of(settings), Path(settings.source).expanduser()
    if (read := boxes_reader(path)) is not None:
        return _with_boxes(read(path), settings, replace(reading, fit=reading.fit or "pad"), progress)
    reading = replace(reading, fit=reading.fit or "crop")
    if table.recognises(path) and settings.task not in (None, "classification"):
        return _with_numbers(path, settings, reading, progress)
    if masks.recognises(path):
        return _with_masks(path, settings, reading, progress)
    if packed_masks.recognises(path):
        return _with_packed_masks(path, settings, reading, progress)
    if path.suffix == ".npz" and arrays.of_other_tasks(contents := arrays.load(path), settings.task):
        return _with_arrays(path, contents, settings, progress)
    raw = find.read(settings.source, progress, reading)
    task = _task(settings, "classification")
    parts = split(raw, settings)
    kind = settings.augment
    if kind == "auto":
        kind = "flip" if raw.mirrored else "shift"
    varied = augmentation(kind, min(raw.train.images.shape[2:]))
    by_name = {name: getattr(parts, name) for name in SPLITS}
    dataset, streamed = assemble(raw.name, task, raw.class_names, by_name, reading, varied)
    tell(dataset, progress, streamed, left_out=raw.left_out)
    return dataset


def _with_boxes(found: Annotated, settings: DataSettings, reading: Reading, progress: Progress) -> Dataset:
    """Make the data set of pictures with boxes."""
    task = _task(settings, "detection")
    parts = splits_of(found, settings, reading, progress)
    kind = settings.augment
    if kind == "auto":
        kind = "flip" if words(found.class_names) else "shift"
    varied = augmentation(kind, min(parts["train"].images.shape[2:]))
    dataset, streamed = assemble(found.name, task, found.class_names, parts, reading, varied)
    tell(dataset, progress, "; ".join(filter(None, [streamed, *found.notes])), left_out=found.left_out)
    return dataset


def _with_numbers(path: Path, settings: DataSettings, reading: Reading, progress: Progress) -> Dataset:
    """Make the data set of a table of pictures with labels or numbers."""
    task = _task(settings, "regression")
    found = table.read(path, task.name)
    rows, cut = completed({part: len(each.files) for part, each in found.parts.items()}, settings, str(path))
    chosen = {
        part: LabelledFiles(
            [found.parts[own].files[row] for own, row in pairs],
            np.stack([found.parts[own].labels[row] for own, row in pairs]),
        )
        for part, pairs in rows.items()
    }
    parts = read_labelled(path.parent, chosen, reading, progress)
    kind = "none" if settings.augment == "auto" else settings.augment
    varied = augmentation(kind, min(parts["train"].images.shape[2:]))
    dataset, streamed = assemble(path.stem, task, found.names, parts, reading, varied)
    tell(dataset, progress, "; ".join(filter(None, [streamed, cut])), left_out=found.left_out)
    return dataset


def _with_masks(path: Path, settings: DataSettings, reading: Reading, progress: Progress) -> Dataset:
    """Make the data set of pictures with masks."""
    task = _task(settings, "segmentation")
    found = masks.find(path)
    rows, cut = completed({part: len(pairs) for part, pairs in found.parts.items()}, settings, str(path))
    pairs = {part: [found.parts[own][row] for own, row in each] for part, each in rows.items()}
    files = {
        part: LabelledFiles([picture for picture, _ in each], np.arange(len(each)))
        for part, each in pairs.items()
    }
    parts = read_labelled(path, files, reading, progress)
    _, _, height, width = parts["train"].images.shape
    size = height * width * sum(map(len, pairs.values()))
    if size > reading.memory_bytes:
        raise DataError(
            f"{path}: masks of {height} x {width} pixels would take {size / 1e9:.3g} GB of memory, where "
            f"they always lie; say data.size, or raise data.memory_gb, now {reading.memory_bytes / 1e9:g}"
        )
    form = Form(height, width, fit=reading.fit or "crop")
    parts = {part: replace(each, labels=masks.read_masks(pairs[part], form)) for part, each in parts.items()}
    masks.check_classes(path, parts["train"].labels)
    kind = "shift" if settings.augment == "auto" else settings.augment
    varied = augmentation(kind, min(height, width))
    dataset, streamed = assemble(path.resolve().name, task, found.names, parts, reading, varied)
    tell(dataset, progress, "; ".join(filter(None, [streamed, cut])), left_out=found.left_out)
    return dataset


def _with_packed_masks(path: Path, settings: DataSettings, reading: Reading, progress: Progress) -> Dataset:
    """Make the data set of pictures and masks in one file."""
    task = _task(settings, "segmentation")
    found = packed_masks.read(path, reading, progress)
    rows, cut = completed({part: len(each) for part, each in found.parts.items()}, settings, str(path))
    parts = {}
    for part, pairs in rows.items():
        chosen = [found.parts[own][np.array([row])] for own, row in pairs]
        parts[part] = Labelled(
            np.concatenate([np.asarray(each.images) for each in chosen]),
            np.concatenate([each.labels for each in chosen]),
        )
    kind = "shift" if settings.augment == "auto" else settings.augment
    varied = augmentation(kind, min(parts["train"].images.shape[2:]))
    dataset, _ = assemble(path.stem, task, found.names, parts, reading, varied)
    tell(dataset, progress, cut)
    return dataset


def _with_arrays(
    path: Path, contents: Mapping[str, np.ndarray], settings: DataSettings, progress: Progress
) -> Dataset:
    """Make the data set of arrays of images and of targets that are no classes."""
    found, left_out = arrays.any_targets(path, contents)
    height, width = found["train"][0].shape[2:]
    if settings.size:
        raise DataError(
            f"data.size: the images of {path} are taken as they are, {height} x {width} pixels; leave it "
            "out, or give a folder of pictures"
        )
    rows, cut = completed({part: len(each[0]) for part, each in found.items()}, settings, str(path))
    splits = {
        part: tuple(np.stack([found[own][kind][row] for own, row in pairs]) for kind in (0, 1))
        for part, pairs in rows.items()
    }
    usual = "shift" if settings.task == "segmentation" else "none"
    return dataset_of(
        splits,
        _task(settings, "regression"),
        name=path.stem,
        augment=usual if settings.augment == "auto" else settings.augment,
        seed=settings.seed,
        progress=progress,
        notes=(cut,),
        left_out=left_out,
    )


def _given(settings: DataSettings, progress: Progress) -> Dataset:
    """Return the result of the function `package.module:name`: a data set, or splits of one."""
    found = called(imported(settings.source, "data.source"), f"data.source: {settings.source}")
    if isinstance(found, Dataset):
        tell(found, progress)
        return found
    return dataset_of(
        found,
        _task(settings, settings.task) if settings.task else None,
        name=settings.source,
        augment="none" if settings.augment == "auto" else settings.augment,
        search_images=settings.search_images,
        seed=settings.seed,
        progress=progress,
    )


def _task(settings: DataSettings, usual: str) -> Task:
    """Return the task that the settings name, or the usual one of the data, with its options."""
    return task_named(settings.task or usual, settings.task_options)
