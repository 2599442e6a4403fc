"""Early exits around any sequence of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.nn.branching import Branching, BranchMode
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.exits.exits import sureness
from dynnas.nn.gates.mode import REAL, GateMode
from dynnas.nn.gates.state import NOTHING, Beside, Carried, Flow

Confidence = Callable[[Tensor], Tensor]
"""A function that maps an output (B, ...) to the confidence in each image, (B,), from 0 to 1."""


OUTPUT = "exit_output"
"""The name of what an exit says, beside the map that goes on."""

TAKEN = Carried("exit_taken", 1)
"""The number (B,) int64 of the exit that images took, beside their output."""


@dataclass(frozen=True)
class ExitMode:
    """A mode of early exits.

    Attributes:
        leave_at: the number of the exit by which all images leave; None where each exit decides.
    """

    leave_at: int | None = None


@dataclass(frozen=True)
class Left:
    """The exits by which images left.

    Attributes:
        taken: (B,) int64, the number of each image's exit.
    """

    taken: Tensor


class EarlyExits(Branching):
    """Stages of a network with an exit behind some of them: images leave at the first that is sure enough.

    In training all outputs are returned, for their losses to be added. In evaluation a stage runs only the
    images that have not left, and nothing once none is left; a context with another `GateMode` may ask for
    all exits to be computed, which select. An ONNX graph for one image has an `If` at every exit; other
    graphs compute all exits.

    A class of its own may say what stages hand on beside the map (`advance`, `remembers`) and what an exit
    reads of it (`said`).

    Args:
        stages: run one after the other; the first takes the network's input.
        exits: one for each stage, from its output to an output of the network; None where there is no exit.
            The last stage needs one, which takes all images that are left.
        threshold: how sure an exit must be of an image, from 0 to 1: one for all, or one for each exit but
            the last.
        confidence: how sure an output is; by default the largest softmax over axis 1, of maps the mean over
            places.

    Raises:
        ValueError: the last stage has no exit, or the numbers of stages, exits and thresholds differ.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        exits: Iterable[nn.Module | None],
        *,
        threshold: float | Sequence[float] = 0.8,
        confidence: Confidence = sureness,
    ) -> None:
        super().__init__()
        found = list(exits)
        self.stages = nn.ModuleList(stages)
        self.exits = nn.ModuleDict({str(at): exit for at, exit in enumerate(found) if exit is not None})
        if len(found) != len(self.stages) or not found or found[-1] is None:
            raise ValueError(
                f"{len(self.stages)} stages and {len(found)} exits; allowed: an exit or None for each stage, "
                "and an exit for the last"
            )
        early = len(self.exits) - 1
        self.thresholds = (threshold,) * early if isinstance(threshold, int | float) else tuple(threshold)
        if len(self.thresholds) != early or not all(0 <= value <= 1 for value in self.thresholds):
            raise ValueError(
                f"thresholds are {self.thresholds}; allowed: {early}, one for each exit but the last, "
                "each from 0 to 1"
            )
        self.confidence = confidence

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the exits but the last, in order."""
        return tuple(f"exit{number}" for number in range(len(self.thresholds)))

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor | tuple[Tensor, ...]:
        """Return in training the outputs of all exits, each (B, ...), and else that of each image's exit."""
        if self.training:
            return self.outputs(x)
        if context is None:
            context = REAL if self.context is PLAIN else self.context
        at = context[ExitMode].leave_at
        if at is not None:
            return self.outputs(x, at)[-1]
        instead = context[BranchMode].run
        y: Tensor
        if instead is not None:
            found: Flow = self.step(0)(Flow(x), context=context)
            y, taken = found.x, found.beside[TAKEN.name]  # type: ignore[assignment]
        elif is_recorded() or context[GateMode].execution != "real":
            y, taken = self.select(self.outputs(x))
        else:
            y, taken = self._run(x)
        if context.trace is not None:
            context.trace.record(Left(taken))
        return y

    def outputs(self, x: Tensor, last: int | None = None) -> tuple[Tensor, ...]:
        """Return the outputs (B, ...) of all exits for all images, in order, or of those up to `last`."""
        found: list[Tensor] = []
        memory: Beside = NOTHING
        for at in range(len(self.stages)):
            x, memory = self.advance(at, x, memory)
            if str(at) in self.exits:
                found.append(self.said(at, x, memory))
            if last is not None and len(found) > last:
                break
        return tuple(found)

    def leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, ...) with which each image leaves, and the number (B,) int64 of its exit."""
        return self.select(self.outputs(x)) if is_recorded() else self._run(x)

    remembers: tuple[Carried, ...] = ()
    """Values of earlier stages and exits that later ones are told."""

    def advance(self, at: int, x: Tensor, memory: Beside) -> tuple[Tensor, Beside]:
        """Run a stage on the map (B, ...) of the one before it.

        Returns:
            Its map, and what later stages and exits are told beside it.
        """
        return self.stages[at](x), memory

    def said(self, at: int, x: Tensor, memory: Beside) -> Tensor:
        """Return the output (B, ...) of the exit behind a stage, from its map and what is told beside it."""
        output: Tensor = self.exits[str(at)](x)
        return output

    def sure(self, output: Tensor, memory: Beside) -> tuple[Tensor, Beside]:
        """Return how sure an exit is of each image, (B,), and what later exits are told.

        Args:
            output: of the exit, (B, ...). memory: what those before it have told, by name; at first nothing.
        """
        return self.confidence(output), memory

    @property
    def can_branch(self) -> bool:
        """False if there is but the last exit."""
        return bool(self.thresholds)

    def ways(self) -> int:
        """Return 2: an image leaves at the first exit, or goes on."""
        return 2

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        """Decide at the first exit: see `dynnas.nn.branching`."""
        return self.step(0).votes(flow)

    def alternative(self, flow: Flow, index: int) -> Flow:
        """Leave at the first exit, or go on: see `dynnas.nn.branching`."""
        return self.step(0).alternative(flow, index)

    def step(self, number: int) -> Step:
        """Return the exit of this number with all that stands between it and the one before."""
        return Step(self, number)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run stage by stage the images that are left."""
        rows = torch.arange(len(x), device=x.device)
        taken = torch.zeros_like(rows)
        y: Tensor | None = None
        memory: Beside = NOTHING
        number = 0
        for at in range(len(self.stages)):
            x, memory = self.advance(at, x, memory)
            if str(at) not in self.exits:
                continue
            output = self.said(at, x, memory)
            if number == len(self.thresholds):
                leaves = torch.ones(len(output), dtype=torch.bool, device=output.device)
            else:
                sure, memory = self.sure(output, memory)
                leaves = sure >= self.thresholds[number]
                memory = {name: value[~leaves] for name, value in memory.items()}
            y = output.new_empty((len(taken), *output.shape[1:])) if y is None else y
            y[rows[leaves]] = output[leaves]
            taken[rows[leaves]] = number
            rows, x = rows[~leaves], x[~leaves]
            number += 1
            if not len(rows):
                break
        assert y is not None
        return y, taken

    def select(self, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Select each image's output from those (B, ...) of all exits; returns as `leave`."""
        memory: Beside = NOTHING
        leaving = []
        for output, threshold in zip(outputs, self.thresholds, strict=False):
            sure, memory = self.sure(output, memory)
            leaving.append(sure >= threshold)
        return first_of(outputs, leaving)


def first_of(outputs: Sequence[Tensor], leaving: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the output (B, ...) of the first exit by which each image may leave, and its number (B,) int64.

    Args:
        outputs: of the exits in order, then the last, by which all may leave.
        leaving: of each exit but the last, (B,) bool: the images that may leave there.
    """
    chosen = outputs[-1]
    taken = torch.full_like(chosen.flatten(1)[:, 0], len(leaving), dtype=torch.int64)
    for number, leaves in reversed(list(enumerate(leaving))):
        taken = torch.where(leaves, number, taken)
        chosen = torch.where(leaves.view(-1, *(1 for _ in chosen.shape[1:])), outputs[number], chosen)
    return chosen, taken


class Step(Branching):
    """An exit and the stages before it, behind which an image leaves or goes on.

    Args:
        exits: has the stages and exits, which stay its own.
        number: of the exit.
    """

    def __init__(self, exits: EarlyExits, number: int) -> None:
        super().__init__()
        self.owner, self._number = exits, number
        self.carried = (TAKEN, *exits.remembers)
        places = [int(at) for at in exits.exits]
        self._place = places[number]
        self._start = places[number - 1] + 1 if number else 0

    def forward(self, flow: Flow, *, context: Context | None = None) -> Any:
        """Map what the exit before saw to the output with which the image leaves."""
        exits = self.owner
        if self._number == len(exits.thresholds):
            gone = self._go_on(flow)
            assert isinstance(gone.x, Tensor)
            return self._left(exits.said(self._place, gone.x, gone.beside))
        instead = (context or exits.context)[BranchMode].run
        if instead is not None:
            return instead(self, flow)
        votes, told = self.votes(flow)
        return self.alternative(told, int(votes.argmax()))

    def ways(self) -> int:
        """Return 2: the image leaves, or goes on."""
        return 2

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        """Return the confidence of the exit beside its threshold, and the map with the output of the exit."""
        exits = self.owner
        gone = self._go_on(flow)
        assert isinstance(gone.x, Tensor)
        output = exits.said(self._place, gone.x, gone.beside)
        sure, memory = exits.sure(output, gone.beside)
        votes = torch.stack([sure, torch.full_like(sure, exits.thresholds[self._number])], dim=1)
        return votes, Flow(gone.x, {OUTPUT: output, **memory})

    def alternative(self, flow: Flow, index: int) -> Flow:
        """Return the output of the exit, or that of a later one."""
        if not index:
            return self._left(flow.beside[OUTPUT])
        exits = self.owner
        memory = {name: value for name, value in flow.beside.items() if name != OUTPUT}
        found: Flow = Step(exits, self._number + 1)(Flow(flow.x, memory), context=exits.context)
        return found

    def _left(self, output: Tensor) -> Flow:
        taken = torch.full_like(output.flatten(1)[:, 0], self._number, dtype=torch.int64)
        return Flow(output, {TAKEN.name: taken})

    def _go_on(self, flow: Flow) -> Flow:
        exits, x = self.owner, flow.x
        assert isinstance(x, Tensor)
        names = [each.name for each in exits.remembers if each.name in flow.beside]
        memory: Beside = {name: flow.beside[name] for name in names}
        for at in range(self._start, self._place + 1):
            x, memory = exits.advance(at, x, memory)
        return Flow(x, memory)
