"""Random splits in which every class has its share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dynnas.data.raw import Labelled, RawData
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings

_TEST_SHARE = 0.2
_SEARCH_SHARE = 0.1
_MOST_SEARCH_IMAGES = 5000


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets of labelled images, each in random order."""

    train: Labelled
    search: Labelled
    test: Labelled


def split(raw: RawData, settings: DataSettings) -> Splits:
    """Divide `raw` into train, search and test by `settings`.

    The test set is the data set's own; without one it is a fifth of the images, the same for every seed, so
    that test accuracies of several studies can be compared.

    Raises:
        DataError: a class has too few images, or the settings leave a class nothing to train on.
    """
    _check_class_sizes(raw)
    rng = np.random.default_rng(settings.seed)
    if raw.test:
        test, images = raw.test[rng.permutation(len(raw.test))], raw.train
    else:
        size = max(1, round(_TEST_SHARE * len(raw.train)))
        chosen, rest = stratified(raw.train.labels, size, np.random.default_rng(0))
        test, images = raw.train[chosen], raw.train[rest]
    if raw.search:
        return _given_search(raw, test, raw.search, settings, rng)
    size = settings.search_images or min(_MOST_SEARCH_IMAGES, max(1, round(_SEARCH_SHARE * len(images))))
    if size >= len(images):
        raise DataError(
            f"data.search_images: {size} of the {len(images)} training images of {raw.where} would leave none"
            f" to train on; give at most {len(images) - len(raw.class_names)}"
        )
    chosen, rest = stratified(images.labels, size, rng)
    search, train = images[chosen], images[rest]
    _check_trainable(train, raw, f"data.search_images: {size} is too many")
    limit = settings.train_images
    if limit is not None and limit < len(train):
        chosen, _ = stratified(train.labels, limit, rng)
        train = train[chosen]
        _check_trainable(train, raw, f"data.train_images: {limit} is too few")
    return Splits(train, search, test)


def _given_search(
    raw: RawData, test: Labelled, own: Labelled, settings: DataSettings, rng: np.random.Generator
) -> Splits:
    """Split off the given search images, or fewer of them if that is asked for."""
    search = own[rng.permutation(len(own))]
    if settings.search_images is not None:
        if settings.search_images > len(search):
            raise DataError(
                f"data.search_images: {settings.search_images} is more than the {len(search)} images of the "
                f"validation split of {raw.where}; give at most as many"
            )
        search = search[stratified(search.labels, settings.search_images, rng)[0]]
    train = raw.train[rng.permutation(len(raw.train))]
    limit = settings.train_images
    if limit is not None and limit < len(train):
        train = train[stratified(train.labels, limit, rng)[0]]
        _check_trainable(train, raw, f"data.train_images: {limit} is too few")
    return Splits(train, search, test)


def stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of `count` of the `labels` and of the rest, both in random order.

    Each class has its proportional share of the `count`, rounded down or up.
    """
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Evenly spaced places in a list sorted by class: no class can miss its share by one or more.
    places = (2 * np.arange(count) + 1) * len(labels) // (2 * count)
    chosen = by_class[places]
    rest = np.delete(by_class, places)
    return rng.permutation(chosen), rng.permutation(rest)


def _check_class_sizes(raw: RawData) -> None:
    needed = 2 if raw.test else 3
    sizes = np.bincount(raw.train.labels, minlength=len(raw.class_names))
    small = [f"{raw.class_names[i]!r} has {sizes[i]}" for i in np.flatnonzero(sizes < needed)]
    if small:
        raise DataError(
            f"{raw.where}: every class needs at least {needed} images to be split, but {', '.join(small)};"
            " add images or remove the class"
        )


def _check_trainable(train: Labelled, raw: RawData, complaint: str) -> None:
    sizes = np.bincount(train.labels, minlength=len(raw.class_names))
    if not sizes.all():
        names = ", ".join(repr(raw.class_names[i]) for i in np.flatnonzero(sizes == 0))
        raise DataError(f"{complaint}: of {raw.where} no image is left to train on for class {names}")


def completed(
    sizes: Mapping[str, int], settings: DataSettings, where: str
) -> tuple[dict[str, list[tuple[str, int]]], str]:
    """Cut the splits that are missing from the training one, in random order: for data without classes.

    Args:
        sizes: images of each split that there is, `train` among them.
        where: for messages.

    Returns:
        For train, search and test the images that each has, as pairs of the split where they are found and
        their number there; and what was cut, in words.

    Raises:
        DataError: none would be left to train on.
    """
    rng = np.random.default_rng(settings.seed)
    parts = {part: [(part, int(row)) for row in rng.permutation(size)] for part, size in sizes.items()}
    train, cut = parts["train"], []
    if not parts.get("test"):
        # The same for every seed, so that scores of several studies can be compared.
        order = np.random.default_rng(0).permutation(sizes["train"])
        count = max(1, round(_TEST_SHARE * len(order)))
        parts["test"] = [("train", int(row)) for row in order[:count]]
        train = [("train", int(row)) for row in rng.permutation(order[count:])]
        cut.append("test")
    if not parts.get("search"):
        default = min(_MOST_SEARCH_IMAGES, max(1, round(_SEARCH_SHARE * len(train))))
        count = settings.search_images or default
        parts["search"], train = train[:count], train[count:]
        cut.append("search")
    elif settings.search_images is not None:
        parts["search"] = parts["search"][: settings.search_images]
    parts["train"] = train[: settings.train_images]
    if not parts["train"]:
        raise DataError(f"{where}: no image is left to train on; give more, or fewer for data.search_images")
    told = f"the {' and the '.join(cut)} split cut from the training images" if cut else ""
    return {part: parts[part] for part in ("train", "search", "test")}, told
