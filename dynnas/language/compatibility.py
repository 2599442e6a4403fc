"""Checks of combinations: ops and gates that do not fit a block, widths too small for it, stages in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from dynnas.language.problems import Problems
from dynnas.language.tree import Listing, Node, Table
from dynnas.nn.config.names import FIXED
from dynnas.nn.config.vocabulary import DENSE_BLOCK, KINDS, NO_GATE, block_facts, operators, refused
from dynnas.nn.facts import Kind
from dynnas.nn.gates.family import GATES
from dynnas.space.architecture import Value
from dynnas.space.knob import Knobs

Entries = Mapping[str, Node]


def check_ops(
    stage: Entries, own: Mapping[int, Entries], layers: Sequence[Knobs], where: str, problems: Problems
) -> None:
    """Check that no layer can draw a refused pair of block and op, wherever its two lists are written.

    `stage` and `own` are what the file says of all layers and of single ones; `layers` are the outcome.
    """
    seen = set()
    for index, layer in enumerate(layers):
        given = {**stage, **own.get(index, {})}
        node = given.get("op") or given.get("block")
        place = f"{where}.{index}" if "op" in own.get(index, {}) else where
        for block, op in ((str(block), str(op)) for block in layer["block"] for op in layer["op"]):
            reason = refused("block", block, "op", op)
            if node is None or reason is None or (node.mark, block, op) in seen:
                continue
            seen.add((node.mark, block, op))
            allowed = [other for other in operators("op") if not refused("block", block, "op", other)]
            problems.add(
                node.mark,
                f"{place}.op: {op} makes no sense in block {block} ({reason}); "
                f"allowed there: {', '.join(allowed)}",
            )


def check_gates(
    stage: Entries, own: Mapping[int, Entries], layers: Sequence[Knobs], where: str, problems: Problems
) -> tuple[Knobs, ...]:
    """Return the layers with the gates that they can have; a gate that can never be is a problem.

    A first block may change the shape, and then nothing could stand for its output: where the stage speaks of
    a gate that needs such (`Gated.keeps_shape`) it means the others.
    """
    for index, layer in enumerate(layers):
        given = {**stage, **own.get(index, {})}
        place = f"{where}.{index}" if "gate" in own.get(index, {}) else where
        found = next(_refused_gates(layer), None)
        if found and (node := given.get("gate") or given.get(found[0])):
            kind, value, gate, reason = found
            allowed = [other for other in operators("gate") if not refused(kind, value, "gate", other)]
            problems.add(
                node.mark,
                f"{place}.gate: {gate} makes no sense {'in' if kind == 'block' else 'with'} {kind} {value} "
                f"({reason}); allowed there: {', '.join(allowed)}",
            )
            break
    first = own.get(0, {}).get("gate") or (stage.get("gate") if len(layers) == 1 else None)
    gates = [str(gate) for gate in layers[0]["gate"]] if layers else []
    skipping = [gate for gate in gates if gate != NO_GATE and GATES[gate].keeps_shape]
    if first is not None and skipping:
        problems.add(
            first.mark,
            f"{where}.gate: found {skipping[0]}; a stage's first block is never skipped, as it may change "
            f"the shape; allowed: {skipping[0]} where the depth is 2 or more, for the blocks after the first",
        )
    kept = [gate for gate in gates if gate not in skipping]
    return tuple(
        layer if index else {**layer, "gate": tuple(kept) or (NO_GATE,)} for index, layer in enumerate(layers)
    )


def _refused_gates(layer: Knobs) -> Iterator[tuple[Kind, str, str, str]]:
    """Yield kind and name of an operator, a gate that cannot be with it, and the reason."""
    for kind in KINDS[:-1]:
        for value, gate in product(map(str, layer[kind]), map(str, layer["gate"])):
            if reason := refused(kind, value, "gate", gate):
                yield kind, value, gate, reason


def check_choice(sections: Entries, choice: Knobs, problems: Problems) -> None:
    """Check that a choice of resolutions leaves a use for other decisions.

    A decision that can never apply is a mistake.
    """
    if not choice["choose"] or FIXED in choice["choose"]:
        return
    found = [("exits", sections["exits"])] if "exits" in sections else []
    stages = sections.get("stages")
    for number, stage in enumerate(stages.items if isinstance(stages, Listing) else (), start=1):
        found += [(f"stage{number}.gate", node) for node in _gates_in(stage)]
    for where, node in found:
        problems.add(
            node.mark,
            f"{where}: never used; it applies only where input.choose is {FIXED}: a network that sees "
            "each image at resolutions of its own decides nothing else",
        )


def _gates_in(node: Node) -> Iterator[Node]:
    """Yield the gates that a stage or one of its layers names."""
    for key, value in node.entries if isinstance(node, Table) else ():
        if key.text == "gate" and str(value) != repr(NO_GATE):
            yield value
        elif isinstance(value, Table):
            yield from _gates_in(value)


def check_widths(
    stage: Entries, layers: Sequence[Knobs], widths: Sequence[Value], where: str, problems: Problems
) -> None:
    """Check that the input and output of a stage have enough channels for its blocks to split."""
    needs = {
        str(block): block_facts(str(block)).least_channels for layer in layers for block in layer["block"]
    }
    found = min((int(width) for width in widths), default=0)
    for block, least in needs.items():
        if "width" in stage and 0 < found < least:
            problems.add(
                stage["width"].mark,
                f"{where}.width: {found} channels enter or leave block {block}; allowed: at least {least}",
            )


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
