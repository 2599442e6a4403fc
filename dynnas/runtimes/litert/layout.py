"""The order in which the axes of a value lie in memory, which need not be that of its shape.

A shape is that of the ONNX graph, as torch has it: channels before height and width. LiteRT convolves values
whose channels lie last. So a value carries an *order*, its axes as they lie in memory, and transposing and
most reshaping cost nothing until an operator needs another order.
"""

from __future__ import annotations

from collections.abc import Sequence

Order = tuple[int, ...]
"""The axes of a value as they lie in memory; (0, 1, 2, ...) is *plain*."""

CHANNELS_LAST: Order = (0, 2, 3, 1)


def plain(rank: int) -> Order:
    """Return the order of a value that lies as its shape says."""
    return tuple(range(rank))


def laid(shape: Sequence[int], order: Order) -> tuple[int, ...]:
    """Return the shape in memory."""
    return tuple(shape[axis] for axis in order)


def without_ones(shape: Sequence[int], order: Order) -> list[int]:
    """Return the axes as they lie, without those of size 1: equal ones differ by no copy."""
    return [axis for axis in order if shape[axis] != 1]


def transposed(order: Order, axes: Sequence[int]) -> Order:
    """Return the order of a value in memory after its axes were permuted to `axes`, without a copy."""
    return tuple(list(axes).index(axis) for axis in order)


def regrouped(shape: Sequence[int], new: Sequence[int], order: Order) -> Order | None:
    """Return the order of a value after it was reshaped without a copy; None where that needs one.

    Args:
        shape, new: the shapes before and after.
        order: before.
    """
    if without_ones(shape, order) == [axis for axis in range(len(shape)) if shape[axis] != 1]:
        return plain(len(new))
    laid_out = without_ones(shape, order)
    found: list[tuple[int, list[int]]] = []  # where a group lies, and its new axes
    ones: list[int] = []
    for before, after in _groups(shape, new):
        axes = [axis for axis in before if shape[axis] != 1]
        if not axes:
            ones += after
            continue
        place = laid_out.index(axes[0])
        if laid_out[place : place + len(axes)] != axes:
            return None
        found.append((place, after))
    return (*ones, *(axis for _, after in sorted(found) for axis in after))


def _groups(shape: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest runs of axes of two shapes that hold the same numbers of values."""
    found = []
    at, to = 0, 0
    while at < len(shape) or to < len(new):
        before: list[int] = []
        after: list[int] = []
        held = given = 1
        while True:
            if at < len(shape) and (held < given or not before):
                before.append(at)
                held *= shape[at]
                at += 1
            elif to < len(new) and (given < held or not after):
                after.append(to)
                given *= new[to]
                to += 1
            if held == given or (at == len(shape) and to == len(new)):
                break
        found.append((before, after))
    return found
