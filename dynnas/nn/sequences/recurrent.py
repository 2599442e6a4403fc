"""Recurrent layers that leave out steps, and recurrent networks that stop reading once they are sure.

Both take sequences (B, T, inputs), such as the rows of an image, and may stand anywhere in a network of one's
own. What a sequence leaves out does not run: torch skips it, and the ONNX graph for one sequence has an `If`
at every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.blocks_by_name import gate_around, real_in_evaluation
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.gate import Decision, Gated, record
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.gates.state import Flow

CELLS: dict[str, type[nn.GRUCell | nn.LSTMCell]] = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}

BIAS = 1.0
"""Initial bias of the update probability, as in the authors' code: new layers leave out few steps."""


class SkipRNN(nn.Module):
    """A recurrent layer that leaves out updates of its state, as the sequence asks.

    It is Skip RNN (Campos et al. 2018, arXiv:1708.06834): with a cell's update S(s, x) and u = round(p),

        s_t = u_t S(s_t-1, x_t) + (1 - u_t) s_t-1
        d_t = sigmoid(W s_t + b)
        p_t+1 = u_t d_t + (1 - u_t) (p_t + min(d_t, 1 - p_t))

    (equations 2 to 6), so that steps that are left out add up until one is due; the first is. Gradients pass
    the rounding as if it were not there. `dynnas.training.Trainer` keeps the updates to the target, with the
    same loss as of any gate in place of the paper's price for an update.

    Args:
        inputs: numbers of each step.
        units: numbers of the state that is seen.
        cell: `gru` or `lstm`.
        target: the share of the updates' multiply-adds to be used, in the mean over sequences and steps.

    Raises:
        SpaceError: there is no such cell, or the target is not above 0 and at most 1.
    """

    def __init__(self, inputs: int, units: int, cell: str = "gru", target: float = 0.5) -> None:
        super().__init__()
        self.skip = _Update(inputs, units, cell, target)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (B, T, inputs) to the state after each step, (B, T, units)."""
        skip = self.skip
        state = x.new_zeros((x.shape[0], skip.cell.width))
        packed = skip.first(torch.cat([x[:, 0], state, state[:, :2]], dim=1))
        seen = [skip.cell.seen(packed)]
        for step in range(1, x.shape[1]):
            packed = skip(torch.cat([x[:, step], packed[:, skip.cell.inputs :]], dim=1))
            seen.append(skip.cell.seen(packed))
        return torch.stack(seen, dim=1)


class RecurrentCell(nn.Module):
    """A cell on an input, a state and two more numbers in one row: (B, inputs + width + 2) to the same.

    Args:
        inputs: numbers of an input. units: numbers of the state that is seen. cell: `gru` or `lstm`.

    Raises:
        SpaceError: there is no such cell.
    """

    def __init__(self, inputs: int, units: int, cell: str) -> None:
        super().__init__()
        if cell not in CELLS:
            raise SpaceError(f"recurrent cell: found {cell!r}; allowed: {', '.join(CELLS)}")
        self.inputs, self.units = inputs, units
        self.width = units if cell == "gru" else 2 * units
        self.cells = nn.ModuleDict({cell: CELLS[cell](inputs, units)})

    def forward(self, packed: Tensor) -> Tensor:
        """Update the state in rows (B, inputs + width + 2), and leave the rest."""
        x, state, rest = packed.split(
            [self.inputs, self.width, packed.shape[1] - self.inputs - self.width], 1
        )
        return torch.cat([x, self.update(x, state), rest], dim=1)

    def update(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the state (B, width) after reading x (B, inputs)."""
        (cell,) = self.cells.values()
        if isinstance(cell, nn.GRUCell):
            return cell(x, state)
        return torch.cat(cell(x, tuple(state.chunk(2, dim=1))), dim=1)

    def seen(self, packed: Tensor) -> Tensor:
        """Return the part of the state that is seen, (B, units)."""
        return packed[:, self.inputs : self.inputs + self.units]


class _Update(Gated):
    """One step of a `SkipRNN`, on a row of input, state, how due an update is, and what a step adds."""

    name = "skip"
    shares_norms = False
    branches = True

    def __init__(self, inputs: int, units: int, cell: str, target: float) -> None:
        block = RecurrentCell(inputs, units, cell)
        config = gate_around("SkipRNN", block, inputs + block.width + 2, "skip", target)
        super().__init__(
            config, start=(BIAS,), features=lambda _, start, __: _due(units, start[0]), block=block
        )

    @property
    def cell(self) -> RecurrentCell:
        """The cell."""
        assert isinstance(self.block, RecurrentCell)
        return self.block

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        return ("skip", "run")

    def choices(self) -> Tensor:
        return torch.eye(2, dtype=torch.bool)

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        return super().forward(x, context=real_in_evaluation(self, context))

    def first(self, x: Tensor) -> Tensor:
        """Update the state, and say how due the next update is."""
        y = self.block(x)
        adds = torch.sigmoid(self.gate(self.cell.seen(y)))
        return torch.cat([y[:, :-2], adds, adds], dim=1)

    def left_out(self, x: Tensor) -> Tensor:
        """Leave the state, and let the next update be more due."""
        due, adds = x[:, -2:-1], x[:, -1:]
        return torch.cat([x[:, :-2], due + torch.minimum(adds, 1 - due), adds], dim=1)

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        assert isinstance(flow.x, Tensor)
        due = flow.x[:, -2:-1]
        return torch.cat([torch.full_like(due, 0.5), due], dim=1), flow

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        return self.first(x) if alternative else self.left_out(x)

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        due = seen[:, -2:-1]
        run = (due > 0.5).to(due.dtype) + (due - due.detach())  # the bracket is 0, with its gradient
        rows = torch.cat([1 - run, run], dim=1)
        return Decision(rows, rows)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        passed, run = decision.weights[:, :1], decision.weights[:, 1:]
        return run * self.first(x) + passed * self.left_out(x)

    def decided(self, flow: Flow, context: Context) -> Flow:
        x = flow.x
        assert isinstance(x, Tensor)
        decision = self.decide(x)
        record(decision, context)
        if is_recorded() or context[GateMode].execution != "real":
            return flow.hand_on(self.masked(x, decision))
        return flow.hand_on(self.together(x, decision, context))


def _due(units: int, start: float) -> nn.Module:
    layer = nn.Linear(units, 1)
    nn.init.constant_(layer.bias, start)
    return layer


class ExitInTime(EarlyExits):
    """A recurrent classifier that reads a sequence until it is sure: early exits in time.

    One classifier looks at the state after every few steps; a sequence leaves where it is sure enough, and
    the steps behind are not run (early prediction in EMI-RNN: Dennis et al. 2018, NeurIPS). In training the
    outputs of all exits are returned, for their losses to be added.

    Args:
        inputs: numbers of each step.
        units: numbers of the state that is seen.
        outputs: numbers for each sequence, such as classes.
        steps: T, the length of sequences.
        every: the number of steps between two exits; after the last step there is always one.
        cell: `gru` or `lstm`.
        threshold: how sure an exit must be, as in `EarlyExits`.

    Raises:
        SpaceError: there is no such cell, or the numbers of steps are below 1.
    """

    def __init__(
        self, inputs: int, units: int, outputs: int, *, steps: int, every: int = 1, cell: str = "gru",
        threshold: float = 0.8,
    ) -> None:  # fmt: skip
        if steps < 1 or every < 1:
            raise SpaceError(f"ExitInTime: steps is {steps} and every is {every}; allowed: 1 or more")
        reader = RecurrentCell(inputs, units, cell)
        head = _Head(units, outputs, reader.width)
        stretches = [every] * (steps // every) + [steps % every] * (steps % every > 0)
        stages = [_Read(reader, stretch) for stretch in stretches]
        super().__init__(stages, [head] * len(stages), threshold=threshold)

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor | tuple[Tensor, ...]:
        """Map sequences (B, T, inputs) to outputs as `EarlyExits` does."""
        first = self.stages[0]
        assert isinstance(first, _Read)
        state = x.new_zeros((x.shape[0], first.cell.width))
        return super().forward(torch.cat([x.flatten(1), state], dim=1), context=context)


class _Read(nn.Module):
    """Reads some steps off the front of a row that ends in the state."""

    def __init__(self, cell: RecurrentCell, steps: int) -> None:
        super().__init__()
        self.cell, self.steps = cell, steps

    def forward(self, packed: Tensor) -> Tensor:
        cell = self.cell
        rest, state = packed[:, : -cell.width], packed[:, -cell.width :]
        for _ in range(self.steps):
            x, rest = rest[:, : cell.inputs], rest[:, cell.inputs :]
            state = cell.update(x, state)
        return torch.cat([rest, state], dim=1)


class _Head(nn.Module):
    """A linear layer on the part of the state that is seen."""

    def __init__(self, units: int, outputs: int, width: int) -> None:
        super().__init__()
        self.units, self.width = units, width
        self.linear = nn.Linear(units, outputs)

    def forward(self, packed: Tensor) -> Tensor:
        state = packed[:, -self.width :]
        return self.linear(state[:, : self.units])
