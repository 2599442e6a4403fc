"""The section `exits`: where early classifiers may stand, how many, and their knobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from dynnas.errors import nearest
from dynnas.language.problems import Problems
from dynnas.language.reading import (
    check_distinct,
    check_used,
    read_knob,
    read_knobs,
    read_list,
    read_table,
    with_defaults,
)
from dynnas.language.tree import Listing, Node, Scalar
from dynnas.nn.config.blueprint import ExitKnobs
from dynnas.nn.config.vocabulary import EXIT_COUNT, MAX_EXITS, exit_knobs
from dynnas.space.architecture import Value
from dynnas.space.knob import names

POSITIONS = "positions"
POSITION = re.compile(r"stage([1-9][0-9]?)(?:\.(0|[1-9][0-9]?))?")

_END = 1000  # stands for the last block of a stage, behind every numbered one

Depths = Sequence[tuple[Value, ...]]


def read_exit_section(node: Node, depths: Depths, problems: Problems) -> ExitKnobs:
    """Return the exits of a network whose stages have these depths (none for an unreadable depth)."""
    allowed = (POSITIONS, EXIT_COUNT.name, *names(exit_knobs()))
    entries = read_table(node, "exits", allowed, problems, required=(POSITIONS,))
    positions = _read_positions(entries[POSITIONS], depths, problems) if POSITIONS in entries else ()
    counts: tuple[Value, ...] = tuple(range(len(positions) + 1)) if positions else ()
    if EXIT_COUNT.name in entries:
        count = entries[EXIT_COUNT.name]
        counts = read_knob(count, EXIT_COUNT, "exits.count", problems)
        if positions and counts and int(counts[-1]) > len(positions):
            problems.add(
                count.mark,
                f"exits.count: found {counts[-1]}; allowed: up to {len(positions)}, one a position",
            )
    knobs = with_defaults(read_knobs(entries, exit_knobs(), "exits", problems), exit_knobs())
    check_used(entries, exit_knobs(), [{**knobs, EXIT_COUNT.name: counts}], "exits", problems)
    return ExitKnobs(positions, counts, knobs)


def _read_positions(node: Node, depths: Depths, problems: Problems) -> tuple[str, ...]:
    """Return the legal positions in the order of depth."""
    where = f"exits.{POSITIONS}"
    items = read_list(node, where, "positions", problems) if isinstance(node, Listing) else (node,)
    if len(items) > MAX_EXITS:
        problems.add(node.mark, f"{where}: found {len(items)} positions; allowed: at most {MAX_EXITS}")
        return ()
    found = [_read_position(item, depths, problems) for item in items]
    check_distinct(items, found, where, problems)
    positions = sorted({position for position in found if position is not None}, key=_place)
    for position, following in pairwise(positions):
        stage, layer = _place(position)
        if _place(following) == (stage, _END) and layer + 1 in depths[stage - 1]:
            problems.add(
                node.mark,
                f"{where}: {position} and {following} are the same place where depth is {layer + 1}",
            )
    return tuple(positions)


def _place(position: str) -> tuple[int, int]:
    """Return stage and layer of a legal position, in the order of depth."""
    stage, _, layer = position.removeprefix("stage").partition(".")
    return int(stage), int(layer) if layer else _END


def _read_position(node: Node, depths: Depths, problems: Problems) -> str | None:
    ends = [f"stage{number}" for number in range(1, len(depths))]  # the last stage's end is the head's place
    if isinstance(node, Scalar) and (node.text in ends or _is_inner_block(node.text, depths)):
        return node.text
    hint = nearest(node.text, ends) if isinstance(node, Scalar) else ""
    allowed = ", ".join([*ends, "a block that every depth has (as stage1.0), but not the network's last"])
    problems.add(node.mark, f"exits.{POSITIONS}: found {node}{hint}; allowed: {allowed}")
    return None


def _is_inner_block(position: str, depths: Depths) -> bool:
    """Return whether this is a block that every depth of its stage has, and never the network's last."""
    if not POSITION.fullmatch(position):
        return False
    stage, layer = _place(position)
    if layer == _END or stage > len(depths):
        return False
    least = min((int(depth) for depth in depths[stage - 1]), default=_END)
    return layer < (least - 1 if stage == len(depths) else least)
