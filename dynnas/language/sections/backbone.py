"""The parts of a space file for networks of rectangles, and for heads that read several maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynnas.language.problems import Problems
from dynnas.language.reading import (
    check_distinct,
    check_used,
    read_knob,
    read_knobs,
    read_one,
    read_table,
    with_defaults,
)
from dynnas.language.tree import Listing, Node, Table
from dynnas.nn.config.blueprint import ExitKnobs
from dynnas.nn.config.names import FIXED
from dynnas.nn.config.vocabulary import (
    CLASSIFIER,
    DENSE_BLOCK,
    OF_TASK,
    SIDE,
    head_kind,
    head_knobs,
    map_head_knobs,
)
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.gate import Gated
from dynnas.nn.registry import HEADS
from dynnas.space.architecture import Value
from dynnas.space.knob import MAX_VALUES, Knobs, names
from dynnas.tasks.task import Task

_IMAGE = "image"
_ASKED = {_IMAGE: "a whole image", "pixels": "pixels", "boxes": "boxes"}
_CRITERIA = {
    _IMAGE: ("confidence", "entropy", "learned", "policy"),
    "pixels": ("confidence", "pixels"),
    "boxes": ("confidence",),
}
"""The criteria that an exit may have, by what it answers for."""


def read_rectangles(node: Node, problems: Problems) -> tuple[Value, ...]:
    """Return resolutions as (height, width), the smallest area first; a number stands for a square."""
    assert isinstance(node, Listing)
    where, found = "input.resolutions", []
    for item in node.items:
        sides = item.items if isinstance(item, Listing) else (item, item)
        if len(sides) != 2:
            problems.add(
                item.mark, f"{where}: found {item}; allowed: [height, width], or the side of a square"
            )
            return ()
        found.append(tuple(read_one(side, SIDE, where, problems) for side in sides))
    if any(None in size for size in found):
        return ()
    if len(found) > MAX_VALUES:
        problems.add(node.mark, f"{where}: found {len(found)} values; allowed: at most {MAX_VALUES}")
    check_distinct(node.items, found, where, problems)
    return tuple(sorted(dict.fromkeys(found), key=lambda size: (size[0] * size[1], size)))


def read_head(node: Node | None, task: Task | None, problems: Problems) -> Knobs:
    """Return all knobs of the head; `kind` is among them unless it is a classifier.

    Args:
        task: of the data, which says the kind where the file does not.
    """
    chooses, classifier, maps = head_kind(), head_knobs(), map_head_knobs()
    allowed = names((chooses, *classifier, *maps))
    entries = read_table(node, "head", allowed, problems) if node else {}
    kinds = read_knob(entries["kind"], chooses, "head.kind", problems) if "kind" in entries else ()
    kinds = kinds or (_kind_for(task),)
    answers = {kind: _IMAGE if kind == CLASSIFIER else str(HEADS[str(kind)].answers) for kind in kinds}
    mixed = CLASSIFIER in kinds and len(kinds) > 1
    if mixed or len(set(filter(None, answers.values()))) > 1:
        told = ", ".join(f"{kind} (of {answer or 'any'})" for kind, answer in answers.items())
        problems.add(entries["kind"].mark, f"head.kind: found {told}; allowed: kinds with one kind of answer")
    table = classifier if kinds == (CLASSIFIER,) else (chooses, *maps)
    used = set(names(table)) | {"kind"}
    for name, given in entries.items():
        if name not in used:
            owners = [CLASSIFIER] if name in names(classifier) else []
            owners += [each for each, head in HEADS.items() if name in names(head.knobs)]
            problems.add(
                given.mark, f"head.{name}: never used; it applies only where kind is {' or '.join(owners)}"
            )
    given_knobs = read_knobs(
        {key: each for key, each in entries.items() if key != "kind"}, table, "head", problems
    )
    knobs = with_defaults({**given_knobs, **({} if table is classifier else {"kind": kinds})}, table)
    check_used(entries, table, [knobs], "head", problems)
    return knobs


def _kind_for(task: Task | None) -> str:
    """Return the kind of head for a task: its own, or the first that answers what it asks for."""
    if task is None:
        return CLASSIFIER
    if task.has_own_head:
        return OF_TASK
    usual = CLASSIFIER if task.answers == _IMAGE else OF_TASK
    return next((kind for kind, head in HEADS.items() if head.answers == task.answers), usual)


def check_backbone(
    sections: Mapping[str, Node], choice: Knobs, stages: Sequence[Sequence[Knobs]], problems: Problems
) -> None:
    """Check that a network whose head reads maps has nothing that it cannot have.

    Args:
        sections: of the file. choice: how a resolution is chosen. stages: the knobs of the layers of each.
    """
    why = "networks whose head reads maps have none"
    if "policy" in sections:
        problems.add(
            sections["policy"].mark,
            f"policy: {why}; leave it out, or take a classifier (head: {{kind: {CLASSIFIER}}})",
        )
    if choice["choose"] not in ((), (FIXED,)):
        problems.add(sections["input"].mark, f"input.choose: {why}; allowed: {FIXED}")
    for number, layers in enumerate(stages, start=1):
        mark = sections["stages"].items[number - 1].mark  # type: ignore[union-attr]
        if any(DENSE_BLOCK in layer["block"] for layer in layers):
            problems.add(mark, f"stage{number}.block: found {DENSE_BLOCK}; {why}")
        carrying = {str(gate) for layer in layers for gate in layer["gate"] if _carries(str(gate))}
        if carrying:
            problems.add(mark, f"stage{number}.gate: found {', '.join(sorted(carrying))}; {why}")
        if any(set(layer["gate_reads"]) - {"block"} for layer in layers):
            problems.add(mark, f"stage{number}.gate_reads: {why}; allowed: block")


def check_exits(node: Node, exits: ExitKnobs, head: Knobs, problems: Problems) -> None:
    """Check that the section `exits` fits what the head answers."""
    kinds = [str(kind) for kind in head.get("kind", ())]
    given = {key.text: value.mark for key, value in node.entries} if isinstance(node, Table) else {}
    if OF_TASK in kinds:
        problems.add(
            node.mark,
            f"exits: found head.kind {OF_TASK}, and what the task's head says of fewer maps is not known; "
            "leave exits out, or search a class of your own with dynnas.nn.EarlyExits around its stages",
        )
        return
    answers = str(HEADS[kinds[0]].answers) if kinds else _IMAGE
    if kinds and "activation" in given:
        problems.add(
            given["activation"],
            f"exits.activation: never used; it applies only where head.kind is {CLASSIFIER}",
        )
    for criterion in map(str, exits.knobs["criterion"]):
        if criterion not in _CRITERIA[answers]:
            problems.add(
                given["criterion"],
                f"exits.criterion: found {criterion}, and the head answers for {_ASKED[answers]}; allowed: "
                f"{', '.join(_CRITERIA[answers])}",
            )


def _carries(gate: str) -> bool:
    """Return whether a gate hands values on from block to block."""
    return gate in GATES and GATES[gate].carries.__func__ is not Gated.carries.__func__  # type: ignore[attr-defined]
