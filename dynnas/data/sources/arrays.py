"""Data in an .npz file of arrays: images and labels, for training, search and test or in one.

Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with up to four channels, in 0..255, as floats in
0..1, or of 16 bits as uint16.
Labels are integers of any value or strings, [N] or [N, 1]; tasks without classes have targets [N, ...].
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dynnas.data.raw import Labelled, RawData
from dynnas.data.sources.names import names_of
from dynnas.errors import DataError

_MOST_CHANNELS = 4
_IMAGE_KEYS = ("x_{}", "{}_x", "{}_images", "images_{}", "{}_data")
_LABEL_KEYS = ("y_{}", "{}_y", "{}_labels", "labels_{}", "{}_targets")
_WHOLE_IMAGES = ("images", "x", "data")
_WHOLE_LABELS = ("labels", "y", "targets", "target")

Checked = Callable[[Path, str, np.ndarray], np.ndarray]
"""Looks at an array of targets: from the path, its name and itself to what is taken for it."""


def load(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of the .npz file at `path`.

    Raises:
        DataError: it is damaged or holds Python objects.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive")
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz of arrays ({error}); make or fetch it again") from error


def read(path: Path, arrays: Mapping[str, np.ndarray]) -> RawData:
    """Return the data set of the file at `path`, which holds `arrays`.

    Raises:
        DataError: images or labels are missing or of a form not named above.
    """
    arrays = _by_lower_case(path, arrays)
    images, values = _part(path, arrays, "train", _labels) or _whole(path, arrays, _labels)
    names, labels = np.unique(values, return_inverse=True)
    others = {part: found for part in ("search", "test") if (found := _part(path, arrays, part, _labels))}
    left_out = _left_out(arrays)
    floats = [
        array for array in (images, *(found[0] for found in others.values())) if array.dtype.kind in "bf"
    ]
    # One scale for all arrays of floats: a part that happens to be dark means the same as the others.
    unit = bool(floats) and max(array.max(initial=0) for array in floats) <= 1
    whole = [images, *(found[0] for found in others.values())]
    deep = (
        all(array.dtype == np.uint16 for array in whole) and max(each.max(initial=0) for each in whole) > 255
    )
    labelled = {}
    for part, (part_images, part_values) in others.items():
        if unknown := sorted(set(part_values.tolist()) - set(names.tolist())):
            raise DataError(
                f"{path}: {part} labels {unknown} do not occur among the training labels {names.tolist()};"
                " remove those images or add some to train on"
            )
        part_labels = np.searchsorted(names, part_values)
        labelled[part] = Labelled(_pixels(path, part_images, unit, deep), part_labels.astype(np.int64))
    return RawData(
        name=path.stem,
        where=str(path),
        class_names=tuple(map(str, names)),
        train=Labelled(_pixels(path, images, unit, deep), labels.astype(np.int64)),
        test=labelled.get("test"),
        search=labelled.get("search"),
        left_out=left_out,
    )


def of_other_tasks(arrays: Mapping[str, np.ndarray], task: str | None) -> bool:
    """Return whether arrays are read for a task whose targets are no classes.

    Args:
        task: by its name, or as a reference, whose targets may be anything.
    """
    if task in (None, "classification"):
        return False
    if task in ("regression", "multi_label", "segmentation"):
        return True
    keys = [key for key in arrays if key.lower() in (*_WHOLE_LABELS, *_keys(_LABEL_KEYS, "train"))]
    return any(arrays[key].ndim != 1 or arrays[key].dtype.kind not in "biuSU" for key in keys)


def any_targets(
    path: Path, arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """Return images [N, C, H, W] and targets [N, ...] of each split, and in words what was not read.

    Raises:
        DataError: images or targets are missing or of a form not named above, or are not as many.
    """
    arrays = _by_lower_case(path, arrays)
    found = {"train": _part(path, arrays, "train", _untouched) or _whole(path, arrays, _untouched)}
    for part in ("search", "test"):
        if pair := _part(path, arrays, part, _untouched):
            found[part] = pair
    for part, (images, targets) in found.items():
        if len(images) != len(targets):
            raise DataError(
                f"{path}: {len(images)} {part} images but {len(targets)} targets; give one for each"
            )
    return found, _left_out(arrays)


def _left_out(arrays: Mapping[str, np.ndarray]) -> str:
    return f"{'array' if len(arrays) == 1 else 'arrays'} {', '.join(sorted(arrays))}" if arrays else ""


def _by_lower_case(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, str] = {}
    for key in arrays:
        if found.setdefault(key.lower(), key) != key:
            raise DataError(f"{path}: has {found[key.lower()]} and {key}; keep one of the two")
    return {lower: arrays[key] for lower, key in found.items()}


def _keys(forms: Sequence[str], part: str) -> list[str]:
    return [form.format(name) for name in names_of(part) for form in forms]


def _part(
    path: Path, arrays: dict[str, np.ndarray], part: str, checked: Checked
) -> tuple[np.ndarray, np.ndarray] | None:
    """Take images [N, C, H, W] and what is `checked` of `part` (train, search or test) out of the arrays.

    It returns None if they have none.
    """
    image_keys, label_keys = _keys(_IMAGE_KEYS, part), _keys(_LABEL_KEYS, part)
    images = next((key for key in image_keys if key in arrays), None)
    labels = next((key for key in label_keys if key in arrays), None)
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        wanted = label_keys if labels is None else image_keys
        raise DataError(f"{path}: has {images or labels} but none of {', '.join(wanted)}; add the array")
    return _images(path, images, arrays.pop(images)), checked(path, labels, arrays.pop(labels))


def _whole(path: Path, arrays: dict[str, np.ndarray], checked: Checked) -> tuple[np.ndarray, np.ndarray]:
    images = next((key for key in _WHOLE_IMAGES if key in arrays), None)
    labels = next((key for key in _WHOLE_LABELS if key in arrays), None)
    if images is None or labels is None:
        raise DataError(
            f"{path}: arrays {', '.join(arrays) or '(none)'} are not a data set; name them x_train and"
            " y_train, with x_test and y_test if there is a test set, or images and labels"
        )
    return _images(path, images, arrays.pop(images)), checked(path, labels, arrays.pop(labels))


def _images(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    """Return `images` as [N, C, H, W], with their values untouched."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        first, last = images.shape[1] <= _MOST_CHANNELS, images.shape[3] <= _MOST_CHANNELS
        if last and (not first or images.shape[1] == images.shape[2]):
            return images.transpose(0, 3, 1, 2)
        if first:
            return images
    raise DataError(
        f"{path}: {key} is {images.shape}; needed are images [N, H, W], [N, H, W, C] or [N, C, H, W]"
        f" of at most {_MOST_CHANNELS} channels"
    )


def _untouched(path: Path, key: str, targets: np.ndarray) -> np.ndarray:
    return targets


def _labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biuSU":
        raise DataError(
            f"{path}: {key} is {labels.dtype} {labels.shape}; needed is an integer or a string for each "
            "image (where of 0 and 1, the place of the 1), or say data.task: regression, multi_label or "
            "segmentation"
        )
    return labels


def _pixels(path: Path, images: np.ndarray, unit: bool, deep: bool) -> np.ndarray:
    """Return images as uint8, or as int32 where they have 16 bits.

    Args:
        unit: whether their values are 0..1. deep: whether those of all splits have 16 bits.
    """
    if deep:
        return images.astype(np.int32)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "biuf":
        raise DataError(f"{path}: images of {images.dtype}; save them as uint8")
    scaled = np.rint(images * 255.0) if unit else np.rint(images)
    if len(images) and not (scaled.min() >= 0 and scaled.max() <= 255):  # false for nan, too
        raise DataError(
            f"{path}: image values reach from {images.min()} to {images.max()}; needed is 0..255 or 0..1"
        )
    return scaled.astype(np.uint8)
