"""Reads the section `exits`: where early classifiers may stand, how many, and their knobs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dynnas.space.architecture import Value
from dynnas.space.blueprint import ExitKnobs
from dynnas.space.problems import Problems, nearest
from dynnas.space.reading import (
    complain_of_repeats,
    complain_of_unused,
    read_knob,
    read_knobs,
    read_list,
    read_table,
    with_defaults,
)
from dynnas.space.tree import Listing, Node, Scalar
from dynnas.space.vocabulary import EXIT_COUNT, EXITS, MAX_EXITS, names

POSITIONS = "positions"
POSITION = re.compile(r"stage([1-9][0-9]?)(?:\.(0|[1-9][0-9]?))?")


def read_exit_section(
    node: Node | None, depths: Sequence[tuple[Value, ...]], problems: Problems
) -> ExitKnobs | None:
    """The exits of a network whose stages have these depths (none for a depth that could not be read)."""
    if node is None:
        return None
    entries = read_table(
        node, "exits", (POSITIONS, EXIT_COUNT.name, *names(EXITS)), problems, required=(POSITIONS,)
    )
    positions = _read_positions(entries[POSITIONS], depths, problems) if POSITIONS in entries else ()
    counts: tuple[Value, ...] = tuple(range(len(positions) + 1))
    if EXIT_COUNT.name in entries:
        count = entries[EXIT_COUNT.name]
        counts = read_knob(count, EXIT_COUNT, "exits.count", problems)
        if positions and counts and int(counts[-1]) > len(positions):
            problems.add(
                count.mark, f"exits.count: found {counts[-1]}, but there are {len(positions)} positions"
            )
    knobs = with_defaults(read_knobs(entries, EXITS, "exits", problems), EXITS)
    complain_of_unused(entries, EXITS, [{**knobs, EXIT_COUNT.name: counts}], "exits", problems)
    return ExitKnobs(positions, counts, knobs)


def _read_positions(node: Node, depths: Sequence[tuple[Value, ...]], problems: Problems) -> tuple[str, ...]:
    """The legal positions in the order of depth."""
    where = f"exits.{POSITIONS}"
    items = read_list(node, where, "positions", problems) if isinstance(node, Listing) else (node,)
    if len(items) > MAX_EXITS:
        problems.add(node.mark, f"{where}: found {len(items)} positions; allowed: at most {MAX_EXITS}")
        return ()
    names = [_read_position(item, depths, problems) for item in items]
    complain_of_repeats(items, names, where, problems)
    places = sorted({_place(name): name for name in names if name is not None}.items())
    for (place, name), (following, end) in zip(places, places[1:], strict=False):
        if following == (place[0], _END) and place[1] + 1 in depths[place[0] - 1]:
            problems.add(
                node.mark, f"{where}: {name} and {end} are the same place where depth is {place[1] + 1}"
            )
    return tuple(name for _, name in places)


_END = 1000  # stands for the last block of a stage, behind every numbered one


def _place(position: str) -> tuple[int, int]:
    """Stage and layer of a legal position, in the order of depth."""
    stage, _, layer = position.removeprefix("stage").partition(".")
    return int(stage), int(layer) if layer else _END


def _read_position(node: Node, depths: Sequence[tuple[Value, ...]], problems: Problems) -> str | None:
    ends = [f"stage{number}" for number in range(1, len(depths))]  # the last stage's end is the head's place
    if isinstance(node, Scalar):
        if node.text in ends:
            return node.text
        matched = POSITION.fullmatch(node.text)
        if matched and matched[2] and int(matched[1]) <= len(depths):
            depth = min(depths[int(matched[1]) - 1], default=_END)
            is_last = int(matched[1]) == len(depths)
            if int(matched[2]) < int(depth) - is_last:
                return node.text
    hint = nearest(node.text, ends) if isinstance(node, Scalar) else ""
    problems.add(
        node.mark,
        f"exits.{POSITIONS}: found {node}{hint}; allowed: {', '.join([*ends, 'a block such as stage1.0'])} that every "
        "depth has, but not the network's last block, after which the head stands",
    )
    return None
