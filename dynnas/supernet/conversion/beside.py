"""Gates and exits that a trained network may get beside its own modules, and how they begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from dynnas.nn.config.names import EXITS_AT
from dynnas.supernet.conversion.analysis import Analysis, Wanted
from dynnas.supernet.conversion.blocks import BlocksSeen, Run
from dynnas.supernet.conversion.choices import Choice, Choices
from dynnas.supernet.conversion.coupling.channels import Axis
from dynnas.supernet.conversion.dynamic import Op, begun
from dynnas.supernet.conversion.exits import ExitsAt, Threshold, unsure_exit, why_not
from dynnas.supernet.conversion.gating import UNGATED, GateOf, open_gate
from dynnas.supernet.conversion.member import Begun

_IMAGE_AXES = 4


def gate_choices(
    runs: Sequence[Run], seen: BlocksSeen, shares: Sequence[float], excludes: Callable[[str], bool]
) -> tuple[list[Choice], dict[str, str]]:
    """Return a choice for each block that may be left out, how much of it images are to use, and why not."""
    values = (*(GateOf.value(share) for share in sorted(set(shares))), UNGATED)
    found, left_out = [], {}
    for block in (block for run in runs for block in run.blocks):
        shape = seen.seen[block].shapes[0]
        if excludes(block):
            left_out[f"{block}.gate"] = "is excluded"
        elif seen.seen[block].more:
            left_out[f"{block}.gate"] = "a gate hands on one input, and the block takes more"
        elif len(shape) != _IMAGE_AXES:
            left_out[f"{block}.gate"] = f"gates read maps (B, C, H, W), and the block gets {len(shape)} axes"
        else:
            found.append(Choice(f"{block}.gate", values, GateOf(block, shape[1]), (block,)))
    if not runs:
        left_out["gates"] = "no block gives what it gets, plus something, so none may be skipped"
    return found, left_out


def exit_choices(
    network: nn.Module, listed: Sequence[Choice], analysis: Analysis, wanted: Wanted
) -> tuple[list[Choice], str | None]:
    """Return the choices of exits, or why there are none."""
    seen = analysis.blocks.seen
    names = tuple(name for name in seen if name in wanted.exits)
    for name in names:
        if seen[name].calls != 1 or len(seen[name].shapes[1] or ()) != _IMAGE_AXES:
            return [], f"{name} does not give one map (B, C, H, W)"
        for run in listed:
            blocks = run.what.blocks if isinstance(run.what, Run) else ()
            if any(name == block or name.startswith(f"{block}.") for block in blocks):
                return [], f"{name} may be left out itself; exclude it, or name what stands around the run"
    if not isinstance(analysis.outputs, Tensor) or analysis.outputs.dim() != 2:
        return [], "the network does not give one output (B, classes)"
    if reason := why_not(network, names):
        return [], f"{', '.join(names)}: {reason}"
    places = ExitsAt(names, tuple(seen[name].shapes[1][1] for name in names))
    return [
        Choice(EXITS_AT, places.values, places),
        Choice("exits.threshold", tuple(sorted(set(wanted.thresholds))), Threshold()),
    ], None


def followed(listed: Sequence[Choice], seen: BlocksSeen) -> dict[str, Axis]:
    """Return the channels that gates and exits read, by their keys."""
    found: dict[str, Axis] = {}
    for choice in listed:
        if isinstance(choice.what, GateOf):
            found[choice.what.key] = seen.seen[choice.what.block].before[1]
        elif isinstance(choice.what, ExitsAt):
            found |= {ExitsAt.key(name): seen.seen[name].after[1] for name in choice.what.names}
    return found


def begun_modules(network: nn.Module, choices: Choices, outputs: Any, experts: int, seed: int) -> Begun:
    """Return the modules that members may get, in their whole size."""
    made = Begun({}, {}, {})
    for place, choice in enumerate(choices.listed):
        what, drawn = choice.what, seed + place
        if isinstance(what, Op):
            conv = network.get_submodule(what.conv)
            assert isinstance(conv, nn.Conv2d)
            made.ops.update({(what.conv, op): begun(conv, op, experts, drawn) for op in choice.values[:-1]})
        elif isinstance(what, GateOf):
            made.gates[what.block] = open_gate(network.get_submodule(what.block), what.channels, drawn)
        elif isinstance(what, ExitsAt):
            for name, channels in zip(what.names, what.channels, strict=True):
                made.exits[name] = unsure_exit(channels, outputs.shape[1])
    return made
