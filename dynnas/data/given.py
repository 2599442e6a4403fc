"""Data that a program gives: torch data sets, arrays, or iterables of batches, in two splits or three."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynnas.data.assemble import SCALES, channel_statistics, sampled_note
from dynnas.data.augment import augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.data.split import stratified
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.tasks.builtin.classification import Classification
from dynnas.tasks.task import Task

SPLITS = ("train", "search", "test")
_MOST_CHANNELS = 4
_SEARCH_SHARE = 0.1
_FEW_IMAGES = 50
_MOST_SEARCH_IMAGES = 5000

IMAGES = ("image", "img", "images", "pixel_values")
TARGETS = ("label", "labels", "target", "targets")
"""Names by which an item's image and target are known where it is a mapping."""


def dataset_of(
    data: Any,
    task: Task | None = None,
    *,
    names: Sequence[str] = (),
    name: str = "data",
    augment: str | Callable[..., Any] = "none",
    search_images: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
    left_out: str = "",
) -> Dataset:
    """Read the splits that a program gives once, and return them as a data set held in memory.

    A split is a `torch.utils.data.Dataset` (or any sequence) of pairs of an image and its target, a pair of
    arrays or tensors (images, targets), or an iterable of batches of both, such as a `DataLoader`. In place
    of a pair may stand a mapping that names both, such as `{"image": ..., "label": ...}`. An image
    is (H, W), (H, W, C) or (C, H, W) with up to four channels, an array, a tensor or a PIL image; all have
    one shape and one type, and need not be square. Pixels are bytes (0 to 255), 16 bits (0 to 65535) or
    floats, which are taken as they are. What a data set draws while it is read is drawn once. The order of
    the images is drawn, but that of a `dynnas.data.dataset.Split` is kept.

    Args:
        data: (train, test), (train, search, test), or a mapping of these names to splits. Without a search
            split, a tenth of the training images (at most 5000) is taken out to rank candidates, each class
            in its share.
        task: what targets mean; classification if None and targets are whole numbers.
        names: of the values of targets, such as classes, where the task does not have them.
        name: of the data set in reports.
        augment: how training images are varied: none, shift, flip, crop, or a callable, which
            `dynnas.data.transforms.Transform` describes.
        search_images: the number of images of a search split that is taken out.
        seed: draws the order of the images, and which are taken out.
        progress: told what was read.
        notes, left_out: what else it is told, in words, and what lies there and was not read.

    Raises:
        DataError: a split is missing, empty or not of a form named above, or splits differ in form.
        TaskError: the targets do not fit the task.
    """
    progress = progress or Progress()
    given = _splits(data)
    parts = {part: _read(split, part) for part, split in given.items()}
    if task is None or isinstance(task, Classification):
        parts = {part: Split(split.images, _classes(split.targets)) for part, split in parts.items()}
    _check_alike(parts)
    rng = np.random.default_rng(seed)
    shuffled = {}
    for part, split in parts.items():
        order = rng.permutation(len(split))  # drawn in any case, so that other splits do not depend on it
        ready = isinstance(given[part], Split)
        shuffled[part] = split if ready else _rows(split, order)
    taken_out = "search" not in shuffled
    if taken_out:
        shuffled["train"], shuffled["search"] = _take_out(shuffled["train"], search_images, rng)
    train = shuffled["train"]
    meant = _task_of(task, train.targets).of_data(train.targets, names)
    for part in ("search", "test"):
        meant.of_data(shuffled[part].targets, meant.names)
    varied = augmentation(augment, min(train.images.shape[-2:]))
    varied(read_images(train.images[:1]), train.targets[:1], meant, torch.Generator())  # can targets move?
    scale = SCALES[train.images.dtype]
    mean, std = channel_statistics(read_images(train.images), scale)
    dataset = Dataset(
        name=name, task=meant, train=train, search=shuffled["search"], test=shuffled["test"], mean=mean,
        std=std, augmentation=varied, scale=scale,
    )  # fmt: skip
    taken = "the search split is taken out of the training images" if taken_out else ""
    told = [*notes, taken, sampled_note(train.images)]
    tell(dataset, progress, "; ".join(filter(None, told)), left_out)
    return dataset


def tell(dataset: Dataset, progress: Progress, note: str = "", left_out: str = "") -> None:
    """Report in one line what was read, and in one each which splits or classes are too small to judge by."""
    told = [f"data: {dataset.summary}", note, f"left out: {left_out}" if left_out else ""]
    progress.message("; ".join(filter(None, told)))
    for part in ("search", "test"):
        split = getattr(dataset, part)
        if missing := dataset.task.missing(split.targets):
            progress.message(f"warning: the {part} split has no image of {', '.join(missing)}")
        if len(split) < _FEW_IMAGES:
            progress.message(
                f"warning: the {part} split has only {len(split)} images, so that one of them is "
                f"{1 / len(split):.0%} of its score"
                if len(split) > 1
                else f"warning: the {part} split has one image, which is all of its score"
            )


def _splits(data: Any) -> Mapping[str, Any]:
    if isinstance(data, Mapping):
        if unknown := sorted(set(data) - set(SPLITS)):
            raise DataError(
                f"data: unknown splits {', '.join(map(str, unknown))}; known: {', '.join(SPLITS)}"
            )
        found = dict(data)
    elif isinstance(data, Sequence) and len(data) in (2, 3) and not _is_array(data[0]):
        names = SPLITS if len(data) == 3 else ("train", "test")
        found = dict(zip(names, data, strict=True))
    else:
        raise DataError(
            f"data: a {type(data).__name__} is no data set; needed is (train, test) or (train, search, "
            "test), each a torch data set, a pair of arrays (images, targets) or an iterable of batches"
        )
    found = {part: split for part, split in found.items() if split is not None}
    if missing := [part for part in ("train", "test") if part not in found]:
        raise DataError(f"data: no {' and no '.join(missing)} split; give it")
    return found


def _read(split: Any, part: str) -> Split:
    where = f"data: {part} split"
    if isinstance(split, Split):
        pairs: list[tuple[Tensor, Tensor]] = [(read_images(split.images), split.targets)]
    elif isinstance(split, tuple | list) and len(split) == 2 and all(map(_is_array, split)):
        pairs = [(_images(split[0], where), _targets(split[1], where))]
    elif hasattr(split, "__getitem__") and hasattr(split, "__len__"):
        items = _each(map(split.__getitem__, range(len(split))), f"{where}, image")
        pairs = [_sample(item, f"{where}, image {at}") for at, item in enumerate(items)]
    elif isinstance(split, Iterable):
        pairs = [
            _batch(item, f"{where}, item {at}") for at, item in enumerate(_each(split, f"{where}, item"))
        ]
    else:
        raise DataError(
            f"{where}: a {type(split).__name__} is no split; needed is a torch data set, a pair of arrays "
            "(images, targets) or an iterable of batches"
        )
    if not pairs or not sum(len(images) for images, _ in pairs):
        raise DataError(f"{where}: there are no images")
    images = _joined([images for images, _ in pairs], f"{where}: images")
    targets = _joined([targets for _, targets in pairs], f"{where}: targets")
    if len(images) != len(targets):
        raise DataError(f"{where}: {len(images)} images but {len(targets)} targets; give one for each")
    return Split(_stored(images, where), targets)


def _joined(tensors: Sequence[Tensor], what: str) -> Tensor:
    first = tensors[0]
    for at, tensor in enumerate(tensors):
        if (tensor.shape[1:], tensor.dtype) != (first.shape[1:], first.dtype):
            raise DataError(
                f"{what} differ: number {at} is {tensor.dtype} {tuple(tensor.shape[1:])}, the first "
                f"{first.dtype} {tuple(first.shape[1:])}; resize, crop or pad them to one shape"
            )
    return torch.cat(list(tensors))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _is_batch(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and _is_array(item[0]) and item[0].ndim == 4


def _batch(item: Any, where: str) -> tuple[Tensor, Tensor]:
    item = _pair(item, where)
    if _is_batch(item):
        return _images(item[0], where), _targets(item[1], where)
    return _sample(item, where)


def _each(items: Iterable[Any], where: str) -> Iterator[Any]:
    """Yield what a stranger's data give, one after the other.

    Raises:
        DataError: they raise an error; it says at which item.
    """
    at, found = 0, iter(items)
    while True:
        try:
            item = next(found)
        except StopIteration:
            return
        except Exception as error:  # whatever a stranger's code may raise
            raise DataError(
                f"{where} {at}: the data raised {type(error).__name__}: {error}; mend or leave out what it is"
            ) from error
        yield item
        at += 1


def _sample(item: Any, where: str) -> tuple[Tensor, Tensor]:
    pair = _pair(item, where)
    image, target = (np.asarray(part) if not isinstance(part, Tensor) else part for part in pair)
    return _images(image[None], where), _targets(target[None], where)


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    """Return image and target, or a batch of each, of a pair or of a mapping that names them."""
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    names = f"a mapping with one of {', '.join(IMAGES)} and one of {', '.join(TARGETS)}"
    if not isinstance(item, Mapping):
        of = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise DataError(
            f"{where}: found {type(item).__name__}{of}; needed is a pair of an image and its target, or "
            f"{names}"
        )
    found = [[name for name in known if name in item] for known in (IMAGES, TARGETS)]
    if any(len(each) != 1 for each in found):
        raise DataError(
            f"{where}: found a mapping of {', '.join(map(str, item)) or 'nothing'}; needed is {names}, or a "
            "pair of an image and its target"
        )
    (image,), (target,) = found
    return item[image], item[target]


def _classes(targets: Tensor) -> Tensor:
    """Return whole numbers (N, 1) as (N,)."""
    single = targets.ndim == 2 and targets.shape[1] == 1 and not targets.is_floating_point()
    return targets[:, 0] if single else targets


def _images(images: Any, where: str) -> Tensor:
    """Return images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    found = _tensor(images, where)
    if found.ndim == 3:
        return found[:, None]
    if found.ndim == 4:
        last, first = found.shape[3] <= _MOST_CHANNELS, found.shape[1] <= _MOST_CHANNELS
        if last and not first:
            return found.permute(0, 3, 1, 2)
        if first:
            return found
    raise DataError(
        f"{where}: the shape is {tuple(found.shape[1:])}; needed is (H, W), (H, W, C) or (C, H, W) with at "
        f"most {_MOST_CHANNELS} channels"
    )


def _targets(targets: Any, where: str) -> Tensor:
    found = _tensor(targets, where)
    if found.is_floating_point():
        return found.float()
    return found if found.dtype == torch.uint8 and found.ndim > 1 else found.long()


def _tensor(values: Any, where: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: values are {array.dtype}; needed are numbers")
    if array.dtype == np.uint16:
        array = array.astype(np.int32)
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _stored(images: Tensor, where: str) -> Tensor:
    """Return images as they are held: bytes, 16 bits as int32, or float32."""
    if images.is_floating_point():
        if not torch.isfinite(images).all():
            raise DataError(f"{where}: some pixels are not finite; mend or leave out the image")
        return images.float().contiguous()
    if images.dtype in (torch.uint8, torch.bool):
        return images.to(torch.uint8).contiguous()
    least, most = int(images.min()), int(images.max())
    if least < 0 or most > 65535:
        raise DataError(f"{where}: pixels reach from {least} to {most}; needed is 0 to 255 or 0 to 65535")
    return images.to(torch.int32).contiguous()


def _check_alike(parts: Mapping[str, Split]) -> None:
    train = parts["train"].images
    for part, split in parts.items():
        images = split.images
        if images.shape[1:] != train.shape[1:]:
            raise DataError(
                f"data: training images are {tuple(train.shape[1:])} but {part} images "
                f"{tuple(images.shape[1:])} (channels, height, width); make them alike"
            )
        if images.dtype != train.dtype:
            raise DataError(
                f"data: training images are {train.dtype} but {part} images {images.dtype}, so that the same "
                "number means another brightness; give all in one type"
            )


def _rows(split: Split, rows: np.ndarray) -> Split:
    chosen = torch.from_numpy(rows)
    return Split(split.images[chosen], split.targets[chosen])


def _take_out(train: Split, count: int | None, rng: np.random.Generator) -> tuple[Split, Split]:
    size = count or min(_MOST_SEARCH_IMAGES, max(1, round(_SEARCH_SHARE * len(train))))
    if size >= len(train):
        raise DataError(
            f"data: {size} search images of {len(train)} training images would leave none to train on; "
            "give more images, or a search split"
        )
    classes = train.targets.ndim == 1 and not train.targets.is_floating_point()
    labels = train.targets.numpy() if classes else np.zeros(len(train), np.int64)
    chosen, rest = stratified(labels, size, rng)
    return _rows(train, rest), _rows(train, chosen)


def _task_of(task: Task | None, targets: Tensor) -> Task:
    if task is not None:
        return task
    if targets.ndim == 1 and not targets.is_floating_point():
        return Classification()
    raise DataError(
        f"data: targets are {targets.dtype} of shape {tuple(targets.shape[1:])} for each image; say what "
        "they mean: task=dynnas.tasks.Regression(), MultiLabel() or Segmentation(), or one of your own"
    )
