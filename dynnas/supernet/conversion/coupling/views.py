"""Axes of tensors that are seen in another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from dynnas.supernet.conversion.coupling.channels import Axis, Channels, Couplings


def viewed(
    couplings: Couplings, axes: Sequence[Axis], shape: Sequence[int], new: Sequence[int]
) -> tuple[Axis, ...]:
    """Return what the axes of a tensor carry that was of `shape` and is seen as `new`."""
    found: list[Axis] = []
    for old, parts in _blocks(shape, new):
        if len(old) == len(parts) == 1:
            found.append(axes[old[0]])
            continue
        merged = _merged(couplings, [axes[at] for at in old], [shape[at] for at in old])
        found += _split(couplings, merged, [new[at] for at in parts])
    return tuple(found)


def _blocks(shape: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the shortest runs of axes, before and after, that hold the same number of values."""
    before = after = 0
    while before < len(shape) or after < len(new):
        old, parts, held, wanted = [], [], 1, 1
        if before < len(shape):
            old, held, before = [before], shape[before], before + 1
        if after < len(new):
            parts, wanted, after = [after], new[after], after + 1
        while held != wanted or not (old or parts):
            if (held < wanted and before < len(shape)) or after >= len(new):
                held *= shape[before]
                old.append(before)
                before += 1
            else:
                wanted *= new[after]
                parts.append(after)
                after += 1
        yield old, parts


def _merged(couplings: Couplings, axes: Sequence[Axis], sizes: Sequence[int]) -> Axis:
    """Return one axis of several; the last of those that carry channels keeps them."""
    carrying = [at for at, axis in enumerate(axes) if axis is not None and sizes[at] > 1]
    if not carrying:
        return None
    for at in carrying[:-1]:
        couplings.fix(axes[at], "is joined with another axis that carries channels")
    last = carrying[-1]
    channels = axes[last]
    assert channels is not None
    spread = channels.reshape([-1 if at == last else 1 for at in range(len(axes))])
    return np.broadcast_to(spread, tuple(sizes)).reshape(-1)


def _split(couplings: Couplings, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return several axes of one: one of them carries channels, which are the same along the others."""
    found: list[Axis] = [None] * len(sizes)
    large = [at for at, size in enumerate(sizes) if size > 1]
    if axis is None or not large or math.prod(sizes) == 0:
        return found
    table = axis.reshape(tuple(sizes))
    carrying = next((at for at in large if _constant_beside(table, at)), large[-1])
    rows = np.moveaxis(table, carrying, -1).reshape(-1, sizes[carrying])
    couplings.join_all(np.unique(rows, axis=0))
    found[carrying] = np.ascontiguousarray(rows[0])
    return found


def _constant_beside(table: Channels, at: int) -> bool:
    """Tell whether the channels are the same along all axes but `at`."""
    rows = np.moveaxis(table, at, -1).reshape(-1, table.shape[at])
    return bool(np.all(rows == rows[0]))
