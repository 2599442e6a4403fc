"""Blocks by name with ordinary arguments, and a gate around any module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from dynnas.errors import SpaceError, nearest
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.config.vocabulary import DENSE_BLOCK, KINDS, layer_choices, layer_knobs, refused
from dynnas.nn.context import PLAIN, Context, Contextual
from dynnas.nn.gates.families.halt import Halt
from dynnas.nn.gates.families.skip import Skip
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.mode import REAL
from dynnas.nn.gates.state import Flow
from dynnas.nn.registry import BLOCKS


def block(
    kind: str, in_channels: int, out_channels: int, *, stride: int = 1, kernel: int = 3, **knobs: Any
) -> nn.Module:
    """Build a block that maps (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride).

    With a gate it computes everything and masks, unless a context says otherwise:
    `dynnas.nn.context.with_context(network, Context(GateMode("real")))` is a network that leaves out what its
    gates leave out.

    Args:
        kind: in `dynnas.nn.BLOCKS`.
        in_channels: C of the input. out_channels: C of the output. stride: pixels.
        kernel: pixels along each side of the spatial convolutions, an odd number.
        knobs: those of a layer of a space file, one value each: `op="condconv"`, `experts=4`,
            `attention="se"`, `gate="width"`, `gate_target=0.5`. Those that do not apply are ignored.

    Raises:
        SpaceError: there is no such block, a value is not allowed, or the operators make no sense together.
        TypeError: there is no such knob.
    """
    table = {knob.name: knob for knob in layer_knobs()}
    given: dict[str, Any] = {"block": kind, "kernel": kernel, **knobs}
    for name, value in given.items():
        if name not in table:
            raise TypeError(f"block: unknown knob {name!r}{nearest(name, table)}; known: {', '.join(table)}")
        try:
            given[name] = table[name].rule.accept(value)
        except ValueError:
            raise SpaceError(f"block: {name} is {value!r}; allowed: {table[name].rule}") from None
    if kind == DENSE_BLOCK or given.get("gate_reads", "block") != "block":
        raise SpaceError(
            f"block: {DENSE_BLOCK} and gates that look at other values take part in whole networks alone; "
            "describe one in a space file"
        )
    choices = layer_choices(lambda name: given.get(name, table[name].default))
    for at, one in enumerate(KINDS):
        for other in KINDS[at + 1 :]:
            if reason := refused(one, choices[one].name, other, choices[other].name):
                raise SpaceError(
                    f"block: {other} {choices[other].name!r} makes no sense with {one} "
                    f"{choices[one].name!r}: {reason}"
                )
    operators = (choices["op"], choices["attention"], choices["activation"], choices["gate"])
    config = BlockConfig(choices["block"], in_channels, out_channels, stride, kernel, *operators)
    made: nn.Module = (GATES[config.gate.name] if config.gated else BLOCKS[kind])(config)
    return made


class Skippable(Skip):
    """Any module that keeps the shape of its input, with a gate by which an image may skip it (SkipNet).

    In training both are computed, and the gate learns by Gumbel draws. In evaluation the module runs only the
    images that do not pass it by. What the gates of a network say is recorded in a trace
    (`dynnas.nn.context.tracing`), and `dynnas.training.Trainer` keeps to their targets.

    Args:
        module: from (B, channels, H, W) to the same shape.
        channels: C.
        target: the share of the module's multiply-adds to be used, in the mean over images.
    """

    def __init__(self, module: nn.Module, channels: int, target: float = 0.5) -> None:
        super().__init__(gate_around("Skippable", module, channels, "skip", target), module)

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        """Map (B, C, H, W) to the same shape."""
        return super().forward(x, context=real_in_evaluation(self, context))


class Halting(nn.Module):
    """Modules that keep the shape of their input, run one after the other until an image has had enough.

    This is adaptive computation time (Graves 2016, arXiv:1603.08983; `dynnas.nn.gates.families.halt`). The
    output is the mean of what the modules gave, by how much each of them was to count. In training all are
    computed, and the gates learn; in evaluation a module runs only the images that have not had enough.

    Args:
        modules: each from (B, channels, H, W) to the same shape.
        channels: C.
        target: the share of the modules' multiply-adds to be used, in the mean over images.
    """

    def __init__(self, modules: Iterable[nn.Module], channels: int, target: float = 0.5) -> None:
        super().__init__()
        self.halts = nn.ModuleList(_Halted(module, channels, target) for module in modules)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        flow = Flow(x)
        for halt in self.halts:
            flow = halt(flow)
        assert isinstance(flow.x, Tensor)
        return flow.x


class _Halted(Halt):
    """A module of a run that images halt in, and the gate behind it."""

    def __init__(self, module: nn.Module, channels: int, target: float) -> None:
        super().__init__(gate_around("Halting", module, channels, "halt", target), module)

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        return super().forward(x, context=real_in_evaluation(self, context))


def gate_around(owner: str, module: nn.Module, channels: int, gate: str, target: float) -> BlockConfig:
    """Return the config of a gate around a module that maps (B, channels, ...) to the same shape.

    Raises:
        SpaceError: the target is not above 0 and at most 1; the message begins with `owner`.
    """
    if not 0 < target <= 1:
        raise SpaceError(f"{owner}: target is {target}; allowed: above 0, at most 1")
    kind = Choice(type(module).__name__)
    return BlockConfig(kind, channels, channels, 1, 1, gate=Choice.of(gate, target=target))


def real_in_evaluation(layer: Contextual, context: Context | None) -> Context:
    """Return the context of a call; one that nobody has said leaves out in evaluation what gates do."""
    if context is not None:
        return context
    return REAL if layer.context is PLAIN and not layer.training else layer.context
