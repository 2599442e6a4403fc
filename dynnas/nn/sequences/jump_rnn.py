"""A recurrent layer that jumps over parts of a sequence (LSTM-Jump: Yu et al. 2017, arXiv:1704.06877)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.context import Context, Contextual
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.draw import Draw
from dynnas.nn.gates.estimators import draw_gumbel
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.sequences.recurrent import RecurrentCell

STOPS = 0.5
"""Threshold between 0, for sequences that are read on, and 1 for others."""


class JumpRNN(EarlyExits):
    """A recurrent layer that reads a few steps, jumps, and goes on until it has read enough.

    After each `read` steps a linear layer on the state has a logit for each jump from 0 to `jump`. After a
    jump of j the next step to be read is the j-th behind the last one: 1 leaves nothing out. A sequence is
    read no further after a jump of 0, after its last step, and after `jumps` jumps (section 3.1). In training
    jumps are drawn, and learn by `policy_gradient`, with the reward that the state before the draw expected;
    its `price` is that of reading, for the paper has none. In evaluation the largest logit counts
    (section 3.2).

    What is jumped over is not read: an exit in time behind each jump is taken by sequences that stop there,
    and a graph for one sequence has an `If` at each. Multiply-adds are told by these exits; the reading that
    reaches the end of a sequence counts in full.

    Args:
        inputs: numbers of each step.
        units: numbers of the state that is seen.
        steps: T, the length of sequences.
        read: R, the number of steps between two jumps.
        jump: K, the longest jump.
        jumps: N, the largest number of jumps.
        cell: `gru` or `lstm`.

    Raises:
        SpaceError: there is no such cell, or a number is below 1.
    """

    def __init__(
        self, inputs: int, units: int, *, steps: int, read: int = 1, jump: int = 5, jumps: int = 5,
        cell: str = "lstm",
    ) -> None:  # fmt: skip
        if min(steps, read, jump, jumps) < 1:
            raise SpaceError(
                f"JumpRNN: steps is {steps}, read {read}, jump {jump}, jumps {jumps}; allowed: 1 or more"
            )
        reader = RecurrentCell(inputs, units, cell)
        policy = nn.ModuleDict({"jump": nn.Linear(units, jump + 1), "expect": nn.Linear(units, 1)})
        stages = [_Read(reader, policy, steps, read, jumps, last=at == jumps) for at in range(jumps + 1)]
        seen = _Seen(units, reader.width)
        super().__init__(stages, [seen] * len(stages), threshold=STOPS, confidence=stops)
        self.width = reader.width

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Map sequences (B, T, inputs) to the state after the last step that is read, (B, units)."""
        beside = x.new_zeros((x.shape[0], self.width + 2))
        packed = torch.cat([x.flatten(1), beside], dim=1)
        found = super().forward(packed, context=context)
        return (found[-1] if isinstance(found, tuple) else found)[:, :-1]


def stops(output: Tensor) -> Tensor:
    """Return whether sequences are read no further, as 0 or 1 (B,), by rows (B, units + 1) of an exit."""
    return output[:, -1]


class _Read(Contextual):
    """Reads some steps and jumps, on rows of a sequence, the state, the next step and whether it has stopped.

    Sequences that have stopped stay as they are.
    """

    def __init__(
        self, cell: RecurrentCell, policy: nn.ModuleDict, steps: int, read: int, jumps: int, last: bool
    ) -> None:
        super().__init__()
        self.cell, self.policy, self.last = cell, policy, last
        self.steps, self.read, self.jumps = steps, read, jumps

    def forward(self, packed: Tensor, *, context: Context | None = None) -> Tensor:
        cell = self.cell
        sequence, state, at, stopped = packed.split([self.steps * cell.inputs, cell.width, 1, 1], dim=1)
        places = at.long() + torch.arange(self.read, device=packed.device)
        there = (places < self.steps) & (stopped == 0)
        index = places.clamp(max=self.steps - 1)[:, :, None].expand(-1, -1, cell.inputs)
        found = sequence.unflatten(1, (self.steps, cell.inputs)).gather(1, index)
        for step in range(self.read):
            state = torch.where(there[:, step : step + 1], cell.update(found[:, step], state), state)
        if not self.last:
            jump = self._jump(state, stopped, context or self.context)
            at = at + torch.where(stopped == 0, self.read - 1 + jump, torch.zeros_like(at))
            stopped = ((stopped > 0) | (jump == 0) | (at >= self.steps)).to(at.dtype)
        return torch.cat([sequence, state, at, stopped], dim=1)

    def _jump(self, state: Tensor, stopped: Tensor, context: Context) -> Tensor:
        """Return the jumps (B, 1) of sequences with these states; drawn in training."""
        seen = state[:, : self.cell.units].detach()
        logits: Tensor = self.policy["jump"](seen)
        if not self.training:
            return logits.argmax(dim=1, keepdim=True).to(state.dtype)
        jump = (logits.detach() + context[GateMode].sample(draw_gumbel, logits)).argmax(1, keepdim=True)
        if context.trace is not None and context.trace.wants(Draw):
            drawn = 1 - stopped[:, 0].detach()
            likelihood = logits.log_softmax(dim=1).gather(1, jump)[:, 0] * drawn
            goes_on = (jump[:, 0] > 0) * drawn / (self.jumps + 1)
            expected = self.policy["expect"](seen)[:, 0]
            context.trace.record(Draw(likelihood, expected, drawn, goes_on))
        return jump.to(state.dtype)


class _Seen(nn.Module):
    """The part of the state that is seen, and whether the sequence has stopped."""

    def __init__(self, units: int, width: int) -> None:
        super().__init__()
        self.units, self.width = units, width

    def forward(self, packed: Tensor) -> Tensor:
        beside = packed[:, -self.width - 2 :]
        return torch.cat([beside[:, : self.units], beside[:, -1:]], dim=1)
