"""The names that people give to the splits of a data set."""

from __future__ import annotations

from collections.abc import Mapping

_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "search": ("val", "valid", "validation", "dev", "devel", "development", "search"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
}


def split_of(name: str) -> str | None:
    """Return the split that a name means, in any spelling: train, search or test; None if it means none."""
    return next((part for part, names in _SPLITS.items() if name.lower() in names), None)


def names_of(split: str) -> tuple[str, ...]:
    """Return the names, in lower case, that people give to a split: train, search or test."""
    return _SPLITS[split]
