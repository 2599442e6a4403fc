"""The contract of a gate: logits of an image, a decision over a domain, and two ways to run a block by it.

A family of gates is one file in `gates/` with one class, which is a block that is decided on:

- `alternatives(config)` names what images may differ by in their cost, the cheapest first and all of the
  block last; `choices()` gives a decision that stands for each;
- `decide(seen, context)` says what is to be run, as a `Decision`, by what the gate looks at;
- `masked(x, decision)` computes everything and multiplies by the decision: for any batch, and to learn by;
- `alone(x, choice, decision)` runs images that share one choice, and nothing that it leaves out; a family
  whose logits are its alternatives says instead, in `branch(x, alternative)`, what each of these runs.

Graphs for one image have a branch for each alternative where `branches` says so, else what `recorded` runs;
a family of a few choices that has no logit for each may count them in `ways`, and hand what it knows to the
alternative that is taken (`gates/moe.py`).
What a gate looks at is its block's input or, by `gate_reads`, a value beside it (`gate_features`): `decide`
is given that. A family that reads or hands on values of its own (see `dynnas.nn.gates.state`) says so in
`carries(config)` and does it in `decided(flow, context)`, and in `votes`, `alternative` and `branches_on` for
a single image, alone or in a graph: as `gates/halt.py` does.

The inherited `forward` does the rest. `masked` and `alone` must give the same in eval mode; whatever of a
block they run, `Hidden` helps to leave out channels. Decisions are random in training only, by numbers that
`GateMode.sample` draws. How images are executed and how a gate learns is the call's `GateMode`, and decisions
are recorded in the call's trace (`dynnas.nn.context`).

Names decide what the supernet shares: the tensors of `block` are those of the block without a gate
(`shared_name`), and what a gate has of its own lies in `gate` under the family's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.branching import Branching, BranchMode
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.facts import GATES, HIDDEN_CHANNELS, Kind, Operator, Requirement, refusal
from dynnas.nn.gates.estimators import Chooser
from dynnas.nn.gates.features import Features, GateFeatures, carried_by_gate, features_of
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.gates.state import Beside, Carried, Flow
from dynnas.nn.layers.naming import named
from dynnas.nn.layers.shortcut import keeps_shape
from dynnas.nn.operators import OPERATORS
from dynnas.nn.registry import BLOCKS

HIDDEN = Requirement(
    ("block",), HIDDEN_CHANNELS, "the block has no channels of its own between its convolutions"
)
"""The requirement of gates that choose from a block's hidden channels."""

OPEN_BIAS = 2.0
"""Initial bias of the "run everything" logit: with one alternative the gate starts 88% open, so that blocks
learn.
"""


@dataclass(frozen=True)
class Decision:
    """The decision of a gate on each image of a batch.

    Attributes:
        weights: (B, D) over the family's domain: what each member counts, 0 for one that is left out.
        usage: (B, A), rows that sum to 1: the alternatives that each image runs. Gradients pass.
        logits: (B, A) of the alternatives, where the family has one for each.
        likelihood: (B,), the logarithm of the probability of what was drawn, where gates learn by that.
        loads: (B, L, E), of families that share out work: what each image adds to L kinds of load of each
            member. Training evens them out.
        in_a_run: whether an image runs the block only if it runs those before it.
    """

    weights: Tensor
    usage: Tensor
    logits: Tensor | None = None
    likelihood: Tensor | None = None
    loads: Tensor | None = None
    in_a_run: bool = False

    @property
    def choice(self) -> Tensor:
        """Return the alternatives that are run, (B, D) bool."""
        return self.weights.detach() > 0

    @staticmethod
    def joined(parts: Sequence[Decision]) -> Decision:
        """Return the decision on the images of all parts, one after the other."""
        return Decision(
            torch.cat([part.weights for part in parts]), torch.cat([part.usage for part in parts])
        )

    def of(self, rows: Tensor) -> Decision:
        """Return the decision of the images whose indices are `rows` (n,)."""
        return Decision(self.weights[rows], self.usage[rows])


def one_of(logits: Tensor, chooser: Chooser, context: Context = PLAIN) -> Decision:
    """Return one of the alternatives for each image, by logits (B, A)."""
    rows: Tensor = chooser(logits, context=context)
    return Decision(rows, rows, logits, chooser.likelihood(logits, rows, context))


class Deciding(Branching):
    """A module that is run in part, and the gate that says for each image how much of it."""

    shares_norms: ClassVar[bool]
    """True if images of different choices pass the same batch norms."""

    branches: ClassVar[bool]
    """True if it has a logit for each alternative, and takes the largest: a graph for one image then has a
    branch for each.
    """

    def whole(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) that all run everything to (B, Co, H', W')."""
        raise NotImplementedError

    def sees(self, x: Tensor, flow: Flow) -> tuple[Tensor, Beside]:
        """Return what the gate looks at for the input (B, C, H, W), and what it hands on."""
        return x, {}

    def logits(self, seen: Tensor) -> Tensor:
        """Return the logits (B, L) from which the gate decides."""
        raise NotImplementedError

    def choices(self) -> Tensor:
        """Return one decision for each alternative: (A, D) bool on the CPU."""
        raise NotImplementedError

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Decide from the gate's input: (B, C, H, W) of the block, or a side value (B, width)."""
        raise NotImplementedError

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Map images (B, C, H, W) of any decisions to (B, Co, H', W')."""
        raise NotImplementedError

    def alone(self, x: Tensor, choice: Tensor, decision: Decision) -> Tensor:
        """Map images (B, C, H, W) that share one choice (D,) to (B, Co, H', W'); in eval mode."""
        return self.branch(x, int(choice.to(torch.uint8).argmax()))

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Map images that take one alternative, by its index, to (B, Co, H', W').

        It is for families with branches.
        """
        raise NotImplementedError

    def recorded(self, x: Tensor, decision: Decision) -> Tensor:
        """Return the output (B, Co, H', W') of a graph without branches: it must be right for any decision.

        A family that can leave work out in a graph for one image (execution `real`) says so here.
        """
        return self.masked(x, decision)

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        """Map (B, C, H, W) to (B, Co, H', W'), or a flow to one; alone it finds no values beside the map."""
        context = context or self.context
        return self.step(x, context) if isinstance(x, Flow) else self.step(Flow(x), context).x

    def step(self, flow: Flow, context: Context) -> Flow:
        """Return the output, and the side values that are handed on."""
        x, mode = flow.x, context[GateMode]
        assert isinstance(x, Tensor)
        if mode.choice == "all":
            return flow.hand_on(self.whole(x))
        instead = context[BranchMode].run
        if instead is not None and self.branches_on(flow):
            return instead(self, flow)
        alone = mode.execution == "real" and x.shape[0] == 1 and mode.choice == "gate"
        if self.branches and alone and context.trace is None and not is_recorded():
            # As below, in a third of the time that small operators take in torch.
            logits, told = self.votes(flow)
            return self.alternative(told, int(logits.argmax()))
        if mode.choice == "cheapest":
            return self.cheapest(flow)
        return self.decided(flow, context)

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        """Return the logits (1, alternatives) for one image, and what deciding hands on.

        The image takes the largest.
        """
        assert isinstance(flow.x, Tensor)
        seen, beside = self.sees(flow.x, flow)
        return self.logits(seen), flow.with_values(beside)

    def alternative(self, flow: Flow, index: int) -> Flow:
        """Run one image that takes one alternative: for families with branches."""
        assert isinstance(flow.x, Tensor)
        return flow.hand_on(self.branch(flow.x, index))

    def ways(self) -> int:
        """Return the number of branches of a graph; `votes` and `alternative` number them."""
        return len(self.choices())

    def branches_on(self, flow: Flow) -> bool:
        """Return whether an image can take either of several branches here."""
        return self.branches

    def decided(self, flow: Flow, context: Context) -> Flow:
        """Run a gate that chooses: decide, record the decision, and execute it."""
        x = flow.x
        assert isinstance(x, Tensor)
        seen, beside = self.sees(x, flow)
        decision = self.decide(seen, context)
        record(decision, context)
        return flow.hand_on(self.execute(x, decision, context), beside)

    def execute(self, x: Tensor, decision: Decision, context: Context) -> Tensor:
        """Map (B, C, H, W) to (B, Co, H', W') as the context says."""
        execution = context[GateMode].execution
        if is_recorded():
            return self.recorded(x, decision)
        if execution == "masked":
            return self.masked(x, decision)
        if execution == "counted":
            return self.counted(x, decision, context)
        return self.together(x, decision, context)

    def counted(self, x: Tensor, decision: Decision, context: Context) -> Tensor:
        """Map images (B, C, H, W) to (B, Co, H', W') while batch norms count those that pass them."""
        if self.shares_norms:
            return self.masked(x, decision, counted=True)
        return self.together(x, decision, context)

    def cheapest(self, flow: Flow) -> Flow:
        """Run the first alternative for every image."""
        x = flow.x
        assert isinstance(x, Tensor)
        _, beside = self.sees(x, flow)
        weights = self.choices()[0].to(x).expand(len(x), -1)
        return flow.hand_on(self.masked(x, Decision(weights, weights)), beside)

    def together(self, x: Tensor, decision: Decision, context: Context = PLAIN) -> Tensor:
        """Compute what `masked` does, for images (n, C, H, W) of one choice together, in eval mode."""
        choice = decision.choice
        if len(x) == 1:
            return self.alone(x, choice[0], decision)
        choices, group = torch.unique(choice, dim=0, return_inverse=True)
        if len(choices) == 1:
            return self.alone(x, choices[0], decision)
        y: Tensor | None = None
        for number, own in enumerate(choices):
            rows = (group == number).nonzero().flatten()
            part = self.alone(x[rows], own, decision.of(rows))
            if y is None:
                last = part.is_contiguous(memory_format=torch.channels_last)
                layout = torch.channels_last if last else torch.contiguous_format
                y = part.new_empty((len(x), *part.shape[1:])).contiguous(memory_format=layout)
            y[rows] = part
        assert y is not None
        return y


class Gated(Operator, Deciding):
    """A block, and the gate that says for each image how much of it is run."""

    requires: ClassVar[tuple[Requirement, ...]] = (
        Requirement(("block",), GATES, "its layers are read by all later ones"),
    )

    input_dependent = True

    keeps_shape: ClassVar[bool] = False
    """True if it puts the block's input in the place of its output, or averages them: both must be alike."""

    reads_others: ClassVar[bool] = True
    """True if it can look at a side value instead of its block's input (`gate_reads`)."""

    ends_runs: ClassVar[bool] = False
    """True if an image that skips the block also skips the rest of the run; the single logit then says how
    much of the image is done.
    """

    name: ClassVar[str]
    """The name in space files."""

    def __init__(
        self,
        config: BlockConfig,
        start: Sequence[float],
        features: Callable[[int, Sequence[float], float], nn.Module] = GateFeatures,
        block: nn.Module | None = None,
    ) -> None:
        """`start` are the logits (L,) that a new gate gives for any image; `features` makes what finds them.

        A `block` is taken in the place of the one that the config names.

        Raises:
            SpaceError: the config has no target, or its gate cannot look at what it says.
        """
        super().__init__()
        name, target = config.gate.name, float(config.gate["target"])
        if config.gate_reads != "block" and not self.reads_others:
            raise SpaceError(f"gate {name!r} looks at its block's input, not at {config.gate_reads!r}")
        if self.keeps_shape and not keeps_shape(config):
            raise SpaceError(f"gate {name!r} needs a block that keeps the shape of its input")
        others: dict[Kind, Choice] = {"op": config.op, "attention": config.attention}
        for kind, other in {**others, "activation": config.activation}.items():
            if reason := refusal("gate", type(self), kind, OPERATORS[kind][other.name]):
                raise SpaceError(f"gate {name!r} makes no sense with {kind} {other.name!r}: {reason}")
        self.config = config
        self.carried = self.carries(config)
        self.given = block is not None
        self.block = BLOCKS[config.block.name](config.without_gate()) if block is None else block
        if config.gate_reads == "block":
            self.gate = named(name, features(config.in_channels, start, target))
        else:
            self.gate = named(f"{name}_{config.gate_reads}", features_of(config, start))
        self.chooser = Chooser()

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the names of the alternatives that images may differ by, the cheapest first."""
        raise NotImplementedError

    @classmethod
    def leaves_out(cls, config: BlockConfig) -> bool:
        """Return whether a graph for one image leaves out what is not chosen; else it computes everything."""
        return cls.branches

    @classmethod
    def carries(cls, config: BlockConfig) -> tuple[Carried, ...]:
        """Return the side values that it reads or hands on."""
        return carried_by_gate(config)

    def whole(self, x: Tensor) -> Tensor:
        """Run the block without its gate."""
        return self.block(x)

    def sees(self, x: Tensor, flow: Flow) -> tuple[Tensor, Beside]:
        """Return what the gate looks at for the block's input (B, C, H, W), and what it hands on."""
        features = self.gate[0]
        return features.sees(x, flow) if isinstance(features, Features) else (x, {})

    def logits(self, seen: Tensor) -> Tensor:
        """Return the logits (B, L) of what the gate looks at."""
        return self.gate(seen)

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Decide from what the gate looks at; this is the decision of families with branches."""
        return one_of(self.gate(seen), self.chooser, context)


def hidden_channels(config: BlockConfig) -> int:
    """Return how many channels the block of `config` has between its convolutions.

    Raises:
        SpaceError: it has none that a gate could choose from.
    """
    block = BLOCKS[config.block.name]
    if HIDDEN_CHANNELS not in block.provides:
        raise SpaceError(
            f"gate {config.gate.name!r}: block {config.block.name!r} has no hidden channels to choose from"
        )
    return int(block.hidden_channels(config))


def shared_name(name: str) -> str:
    """Return the name of a gated block's parameter in the supernet.

    A gate does not change the block's own names.
    """
    return name.removeprefix("block.")


def is_of_gate(name: str) -> bool:
    """Return whether a tensor of a gated block is the gate's own."""
    return name.startswith("gate.")


def record(decision: Decision, context: Context) -> None:
    """Add a decision to the trace of the call, if it has one."""
    if context.trace is not None and not is_recorded():
        context.trace.record(decision)
