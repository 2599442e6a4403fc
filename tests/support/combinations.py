"""Combinations of values for parametrised tests: every value has its turn, and most combinations are slow."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import pytest


def combinations(*axes: Iterable[Any], every: int = 4) -> list[Any]:
    """Return all combinations of one value of each axis; all are slow but one in `every`.

    Those are spread evenly: where an axis has `every` values or more, each value of the others is among them.
    """
    values: list[Sequence[Any]] = [list(axis) for axis in axes]
    found = []
    for places in product(*(range(len(axis)) for axis in values)):
        chosen = (axis[place] for axis, place in zip(values, places, strict=True))
        found.append(pytest.param(*chosen, marks=() if sum(places) % every == 0 else pytest.mark.slow))
    return found
