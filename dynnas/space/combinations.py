"""What does not go together: kernel ops that make no sense in a block, and widths too small for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynnas.space.architecture import Value
from dynnas.space.problems import Problems
from dynnas.space.tree import Node
from dynnas.space.vocabulary import LEAST_WIDTH, OPS, REFUSED, Knobs

Entries = Mapping[str, Node]


def check_ops(
    stage: Entries, own: Mapping[int, Entries], layers: Sequence[Knobs], where: str, problems: Problems
) -> None:
    """No layer may be able to draw a refused pair of block and op, wherever its two lists are written.

    `stage` and `own` are what the file says of all layers and of single ones; `layers` are the outcome.
    """
    seen = set()
    for index, layer in enumerate(layers):
        given = {**stage, **own.get(index, {})}
        node = given.get("op") or given.get("block")
        place = f"{where}.{index}" if "op" in own.get(index, {}) else where
        for block, op in ((str(block), str(op)) for block in layer["block"] for op in layer["op"]):
            if node is None or (block, op) not in REFUSED or (node.mark, block, op) in seen:
                continue
            seen.add((node.mark, block, op))
            allowed = ", ".join(other for other in OPS if (block, other) not in REFUSED)
            problems.add(
                node.mark,
                f"{place}.op: {op} makes no sense in block {block} ({REFUSED[block, op]}); "
                f"allowed there: {allowed}",
            )


def check_widths(
    stage: Entries, layers: Sequence[Knobs], widths: Sequence[Value], where: str, problems: Problems
) -> None:
    """What enters and leaves a stage must have channels enough for its blocks to cut into parts."""
    needs = {str(block): LEAST_WIDTH.get(str(block), 1) for layer in layers for block in layer["block"]}
    found = min((int(width) for width in widths), default=0)
    for block, least in needs.items():
        if "width" in stage and 0 < found < least:
            problems.add(
                stage["width"].mark,
                f"{where}.width: {found} channels enter or leave block {block}; allowed: at least {least}",
            )
