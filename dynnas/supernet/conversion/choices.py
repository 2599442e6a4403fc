"""Choices that a trained network leaves, as genes, and what each of them cuts away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dynnas.space.gene import Gene
from dynnas.supernet.conversion.blocks import Run
from dynnas.supernet.conversion.coupling.tracing import Follower
from dynnas.supernet.conversion.dynamic import Op
from dynnas.supernet.conversion.exits import ExitsAt, Threshold
from dynnas.supernet.conversion.gating import GateOf
from dynnas.supernet.conversion.groups import Group
from dynnas.supernet.conversion.member import Counted, Cuts

RESOLUTION = "input.resolution"
NUMBER = "@"
"""Marker before the place of a follower, where it stands among tensors."""
_BESIDE = (f"{NUMBER}gate:", f"{NUMBER}exit:")
"""Beginnings of the names under which the channels that gates and exits read stand among tensors."""


@dataclass(frozen=True)
class Choice:
    """One gene, and what it decides on.

    Attributes:
        name: of the gene. values: smallest first; the last is what the trained network has.
        what: a group of channels, a run of blocks, the name of a convolution whose kernel is cut, what the
            kernel of one depends on, a gate, exits, how sure they must be, or None for the input's size.
        modules: names of the modules that it changes.
    """

    name: str
    values: tuple[Any, ...]
    what: Group | Run | Op | GateOf | ExitsAt | Threshold | str | None
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choices:
    """All choices of a network.

    Attributes:
        listed: parents before children.
        followers: numbers that modules keep.
        whole_groups: names of weights of convolutions whose groups stay or go as a whole.
        sizes: lengths of the axes that carry channels, by tensor (or number) and axis.
    """

    listed: tuple[Choice, ...]
    followers: tuple[Follower, ...] = ()
    whole_groups: frozenset[str] = frozenset()
    sizes: Mapping[tuple[str, int], int] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """The names of all choices."""
        return frozenset(choice.name for choice in self.listed)

    def genes(self) -> tuple[Gene, ...]:
        """Return the genes; what lies in a block alone depends on whether the block is there."""
        return tuple(
            Gene(
                choice.name,
                choice.values,
                _condition(choice, self.listed),
                len(choice.values) > 1 and not isinstance(choice.what, Op | GateOf | ExitsAt),
            )
            for choice in self.listed
        )

    def static(self) -> dict[str, Any]:
        """Return the values without kernels, gates and exits by which images differ; nothing without them."""
        return {
            choice.name: choice.values[-1]
            for choice in self.listed
            if isinstance(choice.what, Op | GateOf | ExitsAt)
        }

    def beside(self) -> dict[str, Any]:
        """Return the values that put in all gates and exits; nothing where there are none."""
        found: dict[str, Any] = {}
        for choice in self.listed:
            if isinstance(choice.what, GateOf):
                found[choice.name] = choice.values[0]
            elif isinstance(choice.what, ExitsAt):
                found[choice.name] = choice.values[-2]
        return found

    def without(self, names: Sequence[str]) -> Choices:
        """Return the rest, where choices turned out to be impossible."""
        kept = tuple(choice for choice in self.listed if choice.name not in names)
        return Choices(kept, self.followers, self.whole_groups, self.sizes)

    def cuts(self, values: Mapping[str, Any]) -> Cuts:
        """Return what a member of these values has less; what is not named is as in the whole network."""
        stays: dict[tuple[str, int], np.ndarray] = {}
        kernels: dict[str, int] = {}
        ops: dict[str, str] = {}
        gates: dict[str, float] = {}
        exits: tuple[str, ...] = ()
        threshold = 1.0
        skipped: list[str] = []
        removed: list[str] = []
        for choice in self.listed:
            value = values.get(choice.name, choice.values[-1])
            if isinstance(choice.what, Threshold):
                threshold = value
            if value == choice.values[-1] or choice.what is None:
                continue
            if isinstance(choice.what, Run):
                skipped += choice.what.blocks[value:]
                removed += choice.what.blocks[value:] if choice.what.removed else ()
            elif isinstance(choice.what, Op):
                ops[choice.what.conv] = value
            elif isinstance(choice.what, GateOf):
                gates[choice.what.block] = GateOf.share(value)
            elif isinstance(choice.what, ExitsAt):
                exits = choice.what.taken(value)
            elif isinstance(choice.what, Threshold):
                continue
            elif isinstance(choice.what, str):
                kernels[choice.what] = value
            else:
                _leave_out(stays, choice.what, value, self.sizes)
        gone = tuple(f"{name}." for name in skipped)
        found = {key: np.flatnonzero(mask) for key, mask in stays.items() if not key[0].startswith(gone)}
        counted = [
            Counted(follower.attribute, follower.factor, len(found[key]))
            for place, follower in enumerate(self.followers)
            if (key := (f"{NUMBER}{place}", 0)) in found
        ]
        tensors = {key: kept for key, kept in found.items() if not key[0].startswith(NUMBER)}
        ops = {conv: op for conv, op in ops.items() if not conv.startswith(gone)}
        gates = {block: share for block, share in gates.items() if block not in skipped}
        beside = {
            key.removeprefix(NUMBER): kept for (key, _), kept in found.items() if key.startswith(_BESIDE)
        }
        return Cuts(
            tensors,
            kernels,
            skipped,
            counted,
            self.whole_groups,
            ops,
            gates,
            exits,
            threshold,
            beside,
            frozenset(removed),
        )


def _leave_out(
    stays: dict[tuple[str, int], np.ndarray],
    group: Group,
    width: int,
    sizes: Mapping[tuple[str, int], int],
) -> None:
    kept = group.kept(width)
    for place in group.places:
        key = place.tensor, place.axis
        mask = stays.setdefault(key, np.ones(sizes[key], bool))
        own = place.channels >= 0
        mask[own] &= kept[place.channels[own]]


def _condition(choice: Choice, listed: Sequence[Choice]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return the depths at which there is something to choose."""
    if isinstance(choice.what, Threshold):
        return tuple((each.name, each.values[:-1]) for each in listed if isinstance(each.what, ExitsAt))
    runs = [each for each in listed if isinstance(each.what, Run)]
    if isinstance(choice.what, Run) or not choice.modules:
        return ()
    for run in runs:
        assert isinstance(run.what, Run)
        inside = [
            at
            for module in choice.modules
            for at, block in enumerate(run.what.blocks)
            if module == block or module.startswith(f"{block}.")
        ]
        if len(inside) == len(choice.modules):
            first = min(inside)
            depths = tuple(value for value in run.values if value > first)
            return ((run.name, depths),) if len(depths) < len(run.values) else ()
    return ()
