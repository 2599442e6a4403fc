"""The sections of a space file that describe a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynnas.language.compatibility import DenseStages, check_choice, check_gates, check_ops, check_widths
from dynnas.language.problems import Problems
from dynnas.language.reading import check_used, read_knobs, read_list, read_one, read_table, with_defaults
from dynnas.language.sections.backbone import check_backbone, check_exits, read_head, read_rectangles
from dynnas.language.sections.exits import read_exit_section
from dynnas.language.tree import Listing, Node, Table
from dynnas.nn.config.blueprint import Blueprint, ExitKnobs, StageKnobs
from dynnas.nn.config.names import FIXED
from dynnas.nn.config.vocabulary import (
    CHANNELS,
    CLASSES,
    DENSE,
    DENSE_BLOCK,
    MAX_DEPTH,
    MAX_SIZES,
    MAX_STAGES,
    POLICY,
    RESOLUTION_CHOICE,
    RESOLUTIONS,
    STAGE,
    head_knobs,
    layer_knobs,
    stem_knobs,
)
from dynnas.space.architecture import Value
from dynnas.space.knob import Knob, Knobs, names, required
from dynnas.tasks.task import Task

INPUT = (RESOLUTIONS, *RESOLUTION_CHOICE, CHANNELS, CLASSES)
LAYERS = "layers"  # the key of a stage under which single layers differ


def read_network(entries: Mapping[str, Node], problems: Problems, task: Task | None = None) -> Blueprint:
    """Return the network that a file's sections describe.

    Args:
        entries: the sections. problems: where what is found is noted.
        task: of the data, if the file says it.

    Raises:
        SpaceFileError: a problem was found, here or before.
    """
    channels, classes, resolutions, choice = _read_input(entries.get("input"), problems)
    stem = _read_section(entries.get("stem"), "stem", stem_knobs(), problems)
    head = _read_head(entries.get("head"), task, problems)
    sides = [
        -(-int(side) // int(stride))
        for size in resolutions
        for side in (size if isinstance(size, tuple) else (size,))
        for stride in stem["stride"]
    ]
    stages = _read_stages(entries.get("stages"), stem["width"], sides, problems)
    check_choice(entries, choice, problems)
    blueprint = Blueprint(
        channels=channels,
        classes=classes,
        resolutions=resolutions,
        choice=choice,
        stem=stem,
        stages=stages,
        head=head,
        exits=_read_exits(entries.get("exits"), stages, problems),
        policy=_read_policy(entries.get("policy"), stages, problems),
    )
    if blueprint.has_backbone:
        check_backbone(entries, choice, [stage.layers for stage in stages], problems)
    if blueprint.exits:
        check_exits(entries["exits"], blueprint.exits, head, problems)
    problems.raise_if_any()
    return blueprint


def _read_section(node: Node | None, where: str, table: tuple[Knob, ...], problems: Problems) -> Knobs:
    """Return all knobs of a simple section; a missing one that is required has been reported."""
    entries = read_table(node, where, names(table), problems, required(table)) if node else {}
    knobs = with_defaults(read_knobs(entries, table, where, problems), table)
    check_used(entries, table, [knobs], where, problems)
    return knobs


def _read_head(node: Node | None, task: Task | None, problems: Problems) -> Knobs:
    """Return all knobs of the head: of a classifier, unless the file asks for more or says another task."""
    table = head_knobs()
    asked = {key.text for key, _ in node.entries} if isinstance(node, Table) else set()
    if task is None and asked <= set(names(table)):
        return _read_section(node, "head", table, problems)
    return read_head(node, task, problems)


def _read_policy(node: Node | None, stages: Sequence[StageKnobs], problems: Problems) -> Knobs | None:
    """Return the section `policy`, which may be left out; None where no gate reads the network."""
    used = any("policy" in layer["gate_reads"] for stage in stages for layer in stage.layers)
    if node is None:
        return with_defaults({}, POLICY) if used else None
    knobs = _read_section(node, "policy", POLICY, problems)
    if stages and not used:
        problems.add(node.mark, "policy: never used; it applies only where gate_reads is policy")
    if len(knobs["width"]) > 1:
        problems.add(
            node.mark,
            f"policy.width: found {len(knobs['width'])} values; allowed: one, as it is not searched",
        )
    return knobs


def _read_input(
    node: Node | None, problems: Problems
) -> tuple[int | None, int | None, tuple[Value, ...], Knobs]:
    if node is None:
        return None, None, (), with_defaults({}, RESOLUTION_CHOICE)
    entries = read_table(node, "input", names(INPUT), problems, required=(RESOLUTIONS.name,))
    channels, classes = (
        read_one(entries[knob.name], knob.rule, f"input.{knob.name}", problems)
        if knob.name in entries
        else None
        for knob in (CHANNELS, CLASSES)
    )
    sizes = entries.get(RESOLUTIONS.name)
    if isinstance(sizes, Listing) and any(isinstance(size, Listing) for size in sizes.items):
        resolutions = read_rectangles(sizes, problems)
    else:
        resolutions = read_knobs(entries, (RESOLUTIONS,), "input", problems).get(RESOLUTIONS.name, ())
    choice = with_defaults(read_knobs(entries, RESOLUTION_CHOICE, "input", problems), RESOLUTION_CHOICE)
    check_used(entries, RESOLUTION_CHOICE, [choice], "input", problems)
    several = [knob for knob in choice["choose"] if knob != FIXED]
    if several and any(isinstance(size, tuple) for size in resolutions):
        problems.add(
            entries["choose"].mark,
            f"input.choose: found {several[0]}, and resolutions that are no squares; allowed: {FIXED}, or "
            "resolutions that are the sides of squares",
        )
    elif several and resolutions and not 2 <= len(resolutions) <= MAX_SIZES:
        problems.add(
            entries["choose"].mark,
            f"input.choose: found {several[0]}, and {len(resolutions)} in input.resolutions; allowed: "
            f"with 2 to {MAX_SIZES} of them",
        )
    return channels, classes, resolutions, choice


def _read_stages(
    node: Node | None, before: tuple[Value, ...], sides: Sequence[int], problems: Problems
) -> tuple[StageKnobs, ...]:
    """Return the stages in order.

    `before` are the widths of the stem, `sides` those of the maps that it makes.
    """
    if node is None:
        return ()
    items = read_list(node, "stages", "stages", problems)
    if len(items) > MAX_STAGES:
        problems.add(node.mark, f"stages: found {len(items)} stages; allowed: at most {MAX_STAGES}")
        return ()
    stages: list[StageKnobs] = []
    dense = DenseStages(sides)
    for number, item in enumerate(items, start=1):
        stages.append(_read_stage(item, before, dense, f"stage{number}", problems))
        before = stages[-1].shared["width"]
    return tuple(stages)


def _read_stage(
    node: Node, before: tuple[Value, ...], dense: DenseStages, where: str, problems: Problems
) -> StageKnobs:
    allowed = (*names(STAGE), *names(layer_knobs()), *names(DENSE), LAYERS)
    entries = read_table(node, where, allowed, problems, required(STAGE))
    shared = with_defaults(read_knobs(entries, STAGE, where, problems), STAGE)
    knobs = layer_knobs()
    every = read_knobs(entries, knobs, where, problems)
    depths = [int(depth) for depth in shared["depth"]]
    own = _read_overrides(entries[LAYERS], f"{where}.{LAYERS}", depths, problems) if LAYERS in entries else {}
    single = {index: read_knobs(given, knobs, f"{where}.{index}", problems) for index, given in own.items()}
    layers = tuple(
        with_defaults({**every, **single.get(index, {})}, knobs) for index in range(max(depths, default=0))
    )
    check_used(entries, knobs, layers, where, problems)
    for index, given in own.items():
        check_used(given, knobs, layers[index : index + 1], f"{where}.{index}", problems)
    check_ops(entries, own, layers, where, problems)
    layers = check_gates(entries, own, layers, where, problems)
    check_widths(entries, layers, (*before, *shared["width"]), where, problems)
    shared = {**shared, **_read_dense(entries, layers, where, problems)}
    dense.add(entries, shared, where, problems)
    return StageKnobs(shared, layers)


def _read_dense(
    entries: Mapping[str, Node], layers: Sequence[Knobs], where: str, problems: Problems
) -> Knobs:
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


def _read_exits(node: Node | None, stages: Sequence[StageKnobs], problems: Problems) -> ExitKnobs | None:
    """Return the section `exits`; it is read after the stages that it refers to."""
    if node is None or not stages:
        return None
    return read_exit_section(node, [stage.shared["depth"] for stage in stages], problems)


def _read_overrides(
    node: Node, where: str, depths: list[int], problems: Problems
) -> dict[int, Mapping[str, Node]]:
    """Return the knobs of single layers, by layer index."""
    if not isinstance(node, Table) or not node.entries:
        problems.add(node.mark, f"{where}: found {node}; allowed: a mapping from layer numbers to knobs")
        return {}
    indices = {str(index): index for index in range(max(depths, default=MAX_DEPTH))}
    overrides: dict[int, Mapping[str, Node]] = {}
    for key, value in node.entries:
        given = read_table(value, f"{where}.{key.text}", names(layer_knobs()), problems)
        if key.text in indices:
            overrides[indices[key.text]] = given
        else:
            problems.add(
                key.mark, f"{where}: found {key}; allowed: a layer number from 0 to {len(indices) - 1}"
            )
    return overrides
