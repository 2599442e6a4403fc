"""Channels that belong together: every index of every axis that carries channels has a number.

A network's tensors are followed through one run. Each axis carries the numbers of its channels, or None where
it carries none (images, positions). An addition says that two numbers are one channel; what must keep its
size is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Channels = np.ndarray
"""Numbers of channels, one for each index of an axis; int64. One may occur several times."""

Axis = Channels | None
"""The channels of an axis; None for one that carries none, whose size never changes."""


class Couplings:
    """Numbers of channels, which of them are the same channel, and which must stay."""

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._fixed: list[tuple[np.ndarray, str]] = []
        self._alike: list[tuple[np.ndarray, np.ndarray]] = []

    def new(self, size: int) -> Channels:
        """Give numbers to the channels of a new axis."""
        first = self._count
        self._count += size
        return np.arange(first, first + size)

    def join(self, one: Axis, other: Axis, reason: str = "is combined with an axis of fixed size") -> Axis:
        """Say that two axes of one length have the same channels; a single index is repeated.

        Returns:
            The channels of the longer one. What meets an axis without channels must stay.
        """
        if one is None or other is None:
            if (known := one if one is not None else other) is not None:
                self.fix(known, reason)
            return known
        if len(one) == len(other):
            if one is not other:
                self._pairs.append((one, other))
            return one
        longer, shorter = (one, other) if len(one) > len(other) else (other, one)
        if len(shorter) != 1:
            raise ValueError(f"axes of {len(one)} and {len(other)} channels are no pair")
        self.fix(shorter, "is repeated over other channels")
        return longer

    def join_all(self, rows: np.ndarray) -> None:
        """Say that the rows (R, C) are C channels."""
        for row in rows[1:]:
            self._pairs.append((rows[0], row))

    def count_alike(self, one: np.ndarray, other: np.ndarray) -> None:
        """Say that channels (C,) are as many as others in every member: then they are the same, one by one.

        Those that are the same ones in another order, such as shuffled channels, are as many anyway.
        """
        self._alike.append((one, other))

    def fix(self, channels: Axis, reason: str) -> None:
        """Say that channels must stay, and why."""
        if channels is not None and len(channels):
            self._fixed.append((channels.reshape(-1), reason))

    def solve(self) -> Solution:
        """Put together what is the same channel."""
        labels = self._labels(self._pairs)
        alike = [
            (one, other)
            for one, other in self._alike
            if not np.array_equal(np.sort(labels[one]), np.sort(labels[other]))
        ]
        if alike:
            labels = self._labels([*self._pairs, *alike])
        reasons: dict[int, str] = {}
        for channels, reason in self._fixed:
            for label in np.unique(labels[channels]):
                reasons.setdefault(int(label), reason)
        return Solution(labels, reasons)

    def _labels(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Return a label of every number: one for each set of numbers that pairs join."""
        one, other = (
            np.concatenate([np.zeros(0, np.int64), *(pair[side].reshape(-1) for pair in pairs)])
            for side in (0, 1)
        )
        graph = coo_matrix((np.ones(len(one), np.int8), (one, other)), (self._count, self._count))
        return connected_components(graph, directed=False)[1]


class Solution:
    """Channels by their labels.

    Attributes:
        labels: the label of every number. fixed: why channels must stay, by label.
    """

    def __init__(self, labels: np.ndarray, fixed: dict[int, str]) -> None:
        self.labels, self.fixed = labels, fixed
        self._stay = np.zeros(int(labels.max(initial=-1)) + 1, bool)
        self._stay[list(fixed)] = True

    def of(self, axis: Channels) -> np.ndarray:
        """Return the labels of an axis, -1 where a channel must stay."""
        labels = self.labels[axis]
        return np.where(self._stay[labels], -1, labels)

    def reasons(self, axis: Channels) -> list[str]:
        """Return why channels of an axis must stay."""
        found = {self.fixed[label] for label in np.unique(self.labels[axis]).tolist() if label in self.fixed}
        return sorted(found)

    def same(self, one: Sequence[Axis], other: Sequence[Axis]) -> bool:
        """Tell whether axes have the same channels, one by one."""
        return len(one) == len(other) and all(
            (a is None and b is None)
            or (
                a is not None
                and b is not None
                and len(a) == len(b)
                and bool(np.all(self.of(a) == self.of(b)))
            )
            for a, b in zip(one, other, strict=True)
        )
