"""The knobs of a stage of multi-scale layers (block `msd`), and the checks of where such stages stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from dynnas.language.problems import Problems
from dynnas.language.reading import read_knobs, with_defaults
from dynnas.language.tree import Node
from dynnas.nn.config.vocabulary import DENSE, DENSE_BLOCK
from dynnas.space.architecture import Value
from dynnas.space.knob import Knobs

Entries = Mapping[str, Node]


def read_dense(entries: Entries, layers: Sequence[Knobs], where: str, problems: Problems) -> Knobs:
    """Return the knobs of `DENSE` of a stage with these layers; none for a stage of other blocks."""
    blocks = {str(block) for layer in layers for block in layer["block"]}
    given = read_knobs(entries, DENSE, where, problems)
    if DENSE_BLOCK not in blocks:
        for name in given:
            problems.add(
                entries[name].mark,
                f"{where}.{name}: never used; it applies only where block is {DENSE_BLOCK}",
            )
        return {}
    if len(blocks) > 1:
        others = ", ".join(sorted(blocks - {DENSE_BLOCK}))
        problems.add(
            entries["block"].mark if "block" in entries else entries["width"].mark,
            f"{where}.block: {DENSE_BLOCK} beside {others}; a stage is of {DENSE_BLOCK} alone or has none, "
            "for what its layers pass on is of several scales",
        )
    for name, values in given.items():
        if len(values) > 1:
            problems.add(
                entries[name].mark,
                f"{where}.{name}: found {len(values)} values; allowed: one, as it is not searched",
            )
    return with_defaults(given, DENSE)


class DenseStages:
    """Consecutive stages, as far as multi-scale layers constrain them."""

    def __init__(self, sides: Sequence[int]) -> None:
        """Start with `sides`: those of the maps that the first stage may see, in pixels."""
        self.sides = tuple(sides)
        self.scales = 0

    def add(self, entries: Entries, shared: Knobs, where: str, problems: Problems) -> None:
        """Check the next stage, whose `shared` knobs have those of `DENSE` if it is of such layers."""
        if "scales" not in shared:
            if self.scales and "width" in entries:
                problems.add(
                    entries["width"].mark,
                    f"{where}: other blocks after a stage of {DENSE_BLOCK}; all later stages must be of "
                    f"{DENSE_BLOCK}, for what it passes on is of several scales",
                )
            self.sides = tuple({-(-side // int(s)) for side, s in product(self.sides, shared["stride"])})
            return
        if not all(shared[name] for name in ("scales", "finest", "links", "width", "stride")):
            return  # what could not be read was noted
        for name, found, allowed in self._wrong(shared):
            mark = (entries.get(name) or entries["width"]).mark
            problems.add(mark, f"{where}.{name}: found {found}; allowed: {allowed}")
        self.scales = int(shared["scales"][0])

    def _wrong(self, shared: Knobs) -> list[tuple[str, Value, str]]:
        """Return the wrong knobs: their names, what is wrong, and what is allowed."""
        scales, finest = int(shared["scales"][0]), int(shared["finest"][0])
        found: list[tuple[str, Value, str]] = []
        if self.scales and scales != self.scales:
            found.append(("scales", scales, f"{self.scales}, as in the stage before"))
        if finest >= scales:
            found.append(("finest", finest, f"below the number of scales, {scales}"))
        if any(int(stride) != 1 for stride in shared["stride"]):
            found.append(
                (
                    "stride",
                    shared["stride"][-1],
                    f"1 in a stage of {DENSE_BLOCK}, which has scales of its own",
                )
            )
        odd = [side for side in self.sides if side % 2 ** (scales - 1)]
        if odd and not self.scales:
            found.append(
                (
                    "scales",
                    scales,
                    f"at most as many that maps of {min(odd)} pixels can be halved {scales - 1} times",
                )
            )
        uneven = [width for width in shared["width"] if int(width) % 2]
        if shared["links"][0] == "both" and uneven:
            found.append(("width", uneven[0], "even numbers where links is both"))
        return found
