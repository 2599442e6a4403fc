"""Coupled channels: those that are left out together, and how many of them there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from dynnas.supernet.conversion.coupling.channels import Axis, Solution
from dynnas.supernet.conversion.importance import magnitudes


@dataclass(frozen=True)
class Place:
    """One axis of a tensor, and the channel of a group that each index belongs to, -1 for none."""

    tensor: str
    axis: int
    channels: np.ndarray


@dataclass(frozen=True)
class Group:
    """Channels that may be left out, each from all tensors at once.

    Attributes:
        name: that of the first module that gives them.
        size: how many channels there are. each: how many indices of that module's weight a channel is.
        places: axes of tensors that have them.
        order: the channels, those that matter most first.
    """

    name: str
    size: int
    each: int
    places: tuple[Place, ...] = field(repr=False)
    order: np.ndarray = field(repr=False)

    @property
    def width(self) -> int:
        """Number of indices that the axis of the first module has for the group."""
        return self.size * self.each

    def widths(self, fractions: Iterable[float], divisor: int) -> tuple[int, ...]:
        """Return the widths that may be chosen, smallest first; the last is all of it.

        They are multiples of `divisor` where that is possible.
        """
        found = {self.width}
        for fraction in fractions:
            step = int(np.lcm(divisor, self.each))
            wanted = max(round(self.width * fraction / step) * step, step)
            if wanted < self.width:
                found.add(wanted)
        return tuple(sorted(found))

    def kept(self, width: int) -> np.ndarray:
        """Return which of the channels (size,) stay at a width, as truth values."""
        stays = np.zeros(self.size, bool)
        stays[self.order[: width // self.each]] = True
        return stays


def groups_of(
    tensors: Mapping[str, tuple[Axis, ...]], solution: Solution, values: Mapping[str, Tensor]
) -> list[Group]:
    """Return the groups of channels that may be left out, in the order in which tensors are listed.

    Channels are of one group if they have the same numbers of indices on the same axes of the same tensors.
    A group has a parameter among them.

    Args:
        tensors: axes of all parameters and buffers, and of numbers that count channels.
        values: those tensors, without the numbers.
    """
    labels = {
        (name, at): solution.of(axis)
        for name, axes in tensors.items()
        for at, axis in enumerate(axes)
        if axis is not None
    }
    signatures: dict[int, list[tuple[str, int, int]]] = {}
    for (name, at), found in labels.items():
        for label, count in zip(*np.unique(found[found >= 0], return_counts=True), strict=True):
            signatures.setdefault(int(label), []).append((name, at, int(count)))
    alike: dict[tuple[tuple[str, int, int], ...], list[int]] = {}
    for label, where in signatures.items():
        # Pixels or times that a fixed matrix mixes are no channels: nothing was trained for them.
        if not any(isinstance(values.get(name), nn.Parameter) for name, _, _ in where):
            continue
        alike.setdefault(tuple(where), []).append(label)
    return [_group(where, found, labels, values) for where, found in alike.items()]


def _group(
    where: Sequence[tuple[str, int, int]],
    members: Sequence[int],
    labels: Mapping[tuple[str, int], np.ndarray],
    values: Mapping[str, Tensor],
) -> Group:
    known = np.sort(np.asarray(members))
    places = []
    for name, at, _ in where:
        found = labels[name, at]
        position = np.searchsorted(known, found).clip(max=len(known) - 1)
        places.append(Place(name, at, np.where(known[position] == found, position, -1)))
    own = [place for place in where if place[0] in values]
    first, _, each = next(
        (place for place in own if place[1] == 0 and values[place[0]].dim() > 1),
        next((place for place in own if place[1] == 0), own[0]),
    )
    shown = [(place.tensor, place.axis, place.channels) for place in places if place.tensor in values]
    found = magnitudes(shown, values)
    order = np.argsort(-found, kind="stable")
    return Group(first.rpartition(".")[0] or first, len(known), each, tuple(places), order)
