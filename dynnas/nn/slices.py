"""Slices: the part that a network's own tensor takes of the tensor that all networks share.

`dynnas.nn.slicing` has the rules by which a tensor gets its `Layout`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import mul

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: its parts, each of which is cut out of a part of the shared axis.

    Attributes:
        parts: the sizes of its parts; most axes have one.
        centred: whether it takes the centre of the shared axis instead of its beginning.
        picked: the indices that it takes, where they are listed.
    """

    parts: tuple[int, ...]
    centred: bool = False
    picked: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """The length of the axis."""
        return sum(self.parts)


@dataclass(frozen=True)
class Layout:
    """The layout of a tensor for slicing.

    Attributes:
        shape: its own shape.
        axes: its axes as they are sliced: an axis of groups counts as several.
        averaged: whether the mean may be taken over leading axes that it lacks.
        declared: whether a rule was declared for it; `owner` is the class of the module that has it.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    averaged: bool = False
    declared: bool = True
    owner: type = nn.Module

    @property
    def logical(self) -> tuple[int, ...]:
        """The shape of the shared tensor that just holds this one."""
        return tuple(axis.size for axis in self.axes)


@dataclass(frozen=True)
class Slice:
    """The rule that cuts a network's own tensor out of the shared one.

    Attributes:
        starts, sizes: what to keep of each axis of the shared tensor; None for all of it.
        picks: for axes of several parts or of listed indices, what to take of them.
        averaged: how many of the first axes the mean is taken over.
        shape: the tensor's own shape, where axes of groups are to be joined.
    """

    starts: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None
    averaged: int = 0
    picks: tuple[tuple[int, tuple[int, ...]], ...] = ()
    shape: tuple[int, ...] | None = None

    def of(self, shared: Tensor) -> Tensor:
        """Return the slice of `shared`, of any shape: a view, unless parts are joined or a mean is taken."""
        part = shared
        if self.starts is not None and self.sizes is not None:
            # All axes in one step with one gradient: indexing takes a step and makes a gradient for each.
            strides = shared.stride()
            first = shared.storage_offset() + sum(map(mul, self.starts, strides))
            part = shared.as_strided(self.sizes, strides, first)
        for axis, picked in self.picks:
            part = part.index_select(axis, torch.tensor(picked, device=part.device))
        if self.averaged:
            part = part.mean(tuple(range(self.averaged)))
        return part if self.shape is None else part.reshape(self.shape)


def slice_of(room: Sequence[Axis], layout: Layout) -> Slice:
    """Return the slice of a tensor of `layout` in a shared one whose axes are `room`.

    Raises:
        SpaceError: it does not fit.
    """
    missing = len(room) - len(layout.axes)
    own = ((),) * max(missing, 0) + tuple(_taken(have, want) for have, want in _pairs(room, layout))
    if missing < 0 or (missing and not layout.averaged) or None in own:
        shared = tuple(axis.size for axis in room)
        raise SpaceError(f"shape {layout.shape} is no slice of the shared shape {shared}")
    starts, sizes, picks = [], [], []
    for number, (axis, taken) in enumerate(zip(room, own, strict=True)):
        start, stop = (taken[0], taken[-1] + 1) if taken else (0, 0 if number >= missing else axis.size)
        if taken and tuple(range(start, stop)) != taken:
            picks.append((number, taken))
            start, stop = 0, axis.size
        starts.append(start)
        sizes.append(stop - start)
    joined = layout.shape if layout.shape != lengths(layout) else None
    if sizes == [axis.size for axis in room]:
        return Slice(averaged=missing, picks=tuple(picks), shape=joined)
    return Slice(tuple(starts), tuple(sizes), missing, tuple(picks), joined)


def _pairs(room: Sequence[Axis], layout: Layout) -> Iterator[tuple[Axis, Axis]]:
    count = len(layout.axes)
    return zip(room[len(room) - count :] if count else (), layout.axes, strict=False)


def lengths(layout: Layout) -> tuple[int, ...]:
    """Return the shape of a tensor whose grouped axes count as several."""
    return tuple(axis.size if axis.picked is None else len(axis.picked) for axis in layout.axes)


def grid(room: Sequence[Axis], layout: Layout) -> tuple[Tensor, ...]:
    """Return the indices of the shared tensor that a tensor of `layout` takes, one for every axis of `room`.

    Each is (n,) along its own axis, so that they broadcast; over leading axes that the tensor lacks it takes
    the first.
    """
    missing = len(room) - len(layout.axes)
    taken = [(0,)] * missing + [_taken(have, want) or () for have, want in _pairs(room, layout)]
    count = len(taken)
    return tuple(
        torch.tensor(one, dtype=torch.long).reshape([-1 if at == axis else 1 for at in range(count)])
        for axis, one in enumerate(taken)
    )


@torch.no_grad()
def write(shared: Tensor, room: Sequence[Axis], layout: Layout, tensor: Tensor) -> None:
    """Write `tensor` into the part of `shared` that a tensor of `layout` takes, in place.

    Both have any shape.

    Over leading axes that the tensor lacks each gets them, so that their mean is the tensor.
    """
    missing = len(room) - len(layout.axes)
    where: list[Tensor] = list(grid(room, layout))
    for axis in range(missing):
        where[axis] = torch.arange(room[axis].size).reshape(
            [-1 if at == axis else 1 for at in range(len(room))]
        )
    values = tensor.to(shared.device, shared.dtype).reshape(lengths(layout))
    shared[tuple(where)] = values.expand(*(room[axis].size for axis in range(missing)), *values.shape)


def _taken(have: Axis, want: Axis) -> tuple[int, ...] | None:
    """Return the indices of an axis of the shared tensor that another takes.

    It is None where that does not fit.
    """
    if len(have.parts) != len(want.parts) or any(b > a for a, b in zip(have.parts, want.parts, strict=True)):
        return None
    if want.picked is not None:
        return want.picked
    found: list[int] = []
    begin = 0
    for room, size in zip(have.parts, want.parts, strict=True):
        start = begin + ((room - size) // 2 if want.centred else 0)
        found += range(start, start + size)
        begin += room
    return tuple(found)


def joined_room(held: Sequence[Axis] | None, layout: Layout) -> tuple[Axis, ...]:
    """Return the axes of a shared tensor that holds what `held` does, and also a tensor of `layout`.

    Raises:
        SpaceError: they are sliced in different ways.
    """
    new = tuple(replace(axis, picked=None) for axis in layout.axes)
    if held is None:
        return new
    axes = max(len(held), len(new))
    padded = [(Axis((1,)),) * (axes - len(each)) + tuple(each) for each in (held, new)]
    room = []
    for number, (a, b) in enumerate(zip(*padded, strict=True)):
        if min(len(held), len(new)) >= axes - number and (
            len(a.parts) != len(b.parts) or a.centred != b.centred
        ):
            raise SpaceError(f"two networks slice axis {number} of {axes} in different ways")
        room.append(Axis(tuple(map(max, a.parts, b.parts)), a.centred or b.centred))
    return tuple(room)
