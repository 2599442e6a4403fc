"""The names that people give to the splits of a data set."""

from __future__ import annotations

from collections.abc import Mapping

_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "search": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_of(name: str) -> str | None:
    """Return the split that a name means, in any spelling: train, search or test; None if it means none."""
    return next((part for part, names in _SPLITS.items() if name.lower() in names), None)
