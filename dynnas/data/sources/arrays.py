"""Data in an .npz file of arrays: images and labels, for training and test or in one.

Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with up to four channels, in 0..255 or, as floats, 0..1.
Labels are integers of any value or strings, [N] or [N, 1].
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
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
    arrays = {key.lower(): array for key, array in arrays.items()}
    images, values = _part(path, arrays, "train") or _whole(path, arrays)
    names, labels = np.unique(values, return_inverse=True)
    others = {part: found for part in ("search", "test") if (found := _part(path, arrays, part))}
    unread = sorted(arrays)
    floats = [
        array for array in (images, *(found[0] for found in others.values())) if array.dtype.kind in "bf"
    ]
    # One scale for all arrays of floats: a part that happens to be dark means the same as the others.
    unit = bool(floats) and max(array.max(initial=0) for array in floats) <= 1
    labelled = {}
    for part, (part_images, part_values) in others.items():
        if unknown := sorted(set(part_values.tolist()) - set(names.tolist())):
            raise DataError(
                f"{path}: {part} labels {unknown} do not occur among the training labels {names.tolist()};"
                " remove those images or add some to train on"
            )
        part_labels = np.searchsorted(names, part_values)
        labelled[part] = Labelled(_bytes(path, part_images, unit), part_labels.astype(np.int64))
    return RawData(
        name=path.stem,
        where=str(path),
        class_names=tuple(map(str, names)),
        train=Labelled(_bytes(path, images, unit), labels.astype(np.int64)),
        test=labelled.get("test"),
        search=labelled.get("search"),
        left_out=f"{'array' if len(unread) == 1 else 'arrays'} {', '.join(unread)}" if unread else "",
    )


def _part(path: Path, arrays: dict[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Take images [N, C, H, W] and labels [N] of `part` (train, search or test) out of the arrays.

    It returns None if they have none.
    """
    called = names_of(part)
    image_keys = [key.format(name) for name in called for key in _IMAGE_KEYS]
    label_keys = [key.format(name) for name in called for key in _LABEL_KEYS]
    images = next((key for key in image_keys if key in arrays), None)
    labels = next((key for key in label_keys if key in arrays), None)
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        wanted = label_keys if labels is None else image_keys
        raise DataError(f"{path}: has {images or labels} but none of {', '.join(wanted)}; add the array")
    return _images(path, images, arrays.pop(images)), _labels(path, labels, arrays.pop(labels))


def _whole(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    images = next((key for key in _WHOLE_IMAGES if key in arrays), None)
    labels = next((key for key in _WHOLE_LABELS if key in arrays), None)
    if images is None or labels is None:
        raise DataError(
            f"{path}: arrays {', '.join(arrays) or '(none)'} are not a data set; name them x_train and"
            " y_train, with x_test and y_test if there is a test set, or images and labels"
        )
    return _images(path, images, arrays.pop(images)), _labels(path, labels, arrays.pop(labels))


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


def _labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biuSU":
        raise DataError(
            f"{path}: {key} is {labels.dtype} {labels.shape}; needed is an integer or a string for each image"
        )
    return labels


def _bytes(path: Path, images: np.ndarray, unit: bool) -> np.ndarray:
    """Return `images` as uint8; `unit` says that their values are 0..1."""
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
