"""Adaptive computation time: blocks until an image has had enough (Graves 2016, arXiv:1603.08983)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.features import Features
from dynnas.nn.gates.gate import Decision, Gated, record
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.gates.state import Carried, Flow

START, LESS = -3.0, 3.0
"""Initial logit of a new gate, and what is added for a smaller target: h is 0.05 for a target of 1, so that
runs of up to twenty blocks run whole, and 0.18 for 0.5. Gates that begin alike hardly learn their targets.
"""

ENOUGH = 0.01
"""Halting threshold epsilon (Graves 2016): an image halts once its cumulative probability reaches 1 -
epsilon.
"""

SLOPE = 0.25
"""Slope of the sigmoid at 0."""

LEFT = Carried("halting_left", 1, lasts=False)
LOGIT = Carried("halting_logit", 1, lasts=False)
"""Side value with the halting logit of the last block, present only where gradients need it."""


def state(config: BlockConfig) -> Carried:
    """Return the side value with the output of the last block of a run, before it was averaged."""
    return Carried("halting_state", config.in_channels, spatial=True, lasts=False)


@register_gate("halt")
class Halt(Gated):
    """A block of a run, x_l = F_l(x_l-1), which ends for an image once its halting probability is used up.

    Behind each block its gate says h_l = sigmoid(gate(x_l)). Once their sum is 1 - 0.01, at block N, the rest
    of the run is left out, and its output is the mean of x_1 .. x_N by h_1 .. h_N-1 and what these leave of 1
    (SACT's residual form: Figurnov et al. 2017, arXiv:1612.02297, section 3.1). Another kind of block, or a
    stage's end, ends the run for all images.

    No block knows which one is last: with R_l = 1 - h_1 - .. - h_l, what it hands on is
    y_l = y_l-1 + R_l-1 (x_l - x_l-1), the output if the run ended here. Beside it go x_l and R_l, and blocks
    are left out once that is at most 0.01.

    The cost of an image is the number N of blocks that it runs. Graves gives it the gradient of N + R_N-1:
    each h before the last lowers it by as much as itself. His cost only ever asks for fewer blocks, and a
    budget must be able to ask for more; so here h_N does so too, and all with the slope of the sigmoid at 0:
    its own vanishes where a gate says that the first block is enough, and no training came back from there.
    """

    name = "halt"
    capacity = 20
    paper = "Graves 2016, arXiv:1603.08983"
    keeps_shape = True
    ends_runs = True
    shares_norms = False
    branches = True

    def __init__(self, config: BlockConfig, block: nn.Module | None = None) -> None:
        """Build from its config, around `block` if one is given.

        Raises:
            SpaceError: the block changes the shape, so that there is no mean of its input and output.
        """
        super().__init__(config, start=(START,), block=block)
        features = self.gate[0]
        assert isinstance(features, Features)
        assert features.logits_by_target is not None
        nn.init.constant_(features.logits_by_target, LESS)

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives: nothing, or the block."""
        return ("halted", "run")

    @classmethod
    def carries(cls, config: BlockConfig) -> tuple[Carried, ...]:
        """Return the side values: the remaining probability, the last block's logit, and its output."""
        return (*super().carries(config), LEFT, LOGIT, state(config))

    def choices(self) -> Tensor:
        """Return one decision for each alternative."""
        return torch.eye(2, dtype=torch.bool)

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Return the remaining probability (B, 1) and, for gradients, the last block's logit.

        The logit is 0 if the block was left out.
        """
        run = (seen[:, :1] > ENOUGH).to(seen.dtype)
        logit = seen[:, 1:].sum(1, keepdim=True)
        usage = run - SLOPE * (logit - logit.detach())  # the bracket is 0, with its gradient
        return Decision(torch.cat([1 - run, run], 1), torch.cat([1 - usage, usage], 1), in_a_run=True)

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        """Return the logits of one image: the block runs while enough probability remains."""
        left = _left(flow)
        return torch.cat([torch.full_like(left, ENOUGH), left], dim=1), flow

    def alternative(self, flow: Flow, index: int) -> Flow:
        """Run nothing, or the block and its gate."""
        return self.go_on(flow) if index else flow.hand_on(flow.x, next=flow.next)

    def branches_on(self, flow: Flow) -> bool:
        """Return whether images differ here: all images run the first block of a run."""
        return flow.value(LEFT) is not None

    def decided(self, flow: Flow, context: Context) -> Flow:
        """Return all images with the halted ones unchanged, or run only the others."""
        logit = flow.value(LOGIT)
        decision = self.decide(_left(flow) if logit is None else torch.cat([_left(flow), logit], dim=1))
        record(decision, context)
        if is_recorded() or context[GateMode].execution == "masked":
            return self.go_on(flow, decision.weights[:, 1:])
        rows = decision.choice[:, 1].nonzero().flatten()
        if len(rows) == len(decision.choice):
            return self.go_on(flow)
        if not len(rows):
            return self.alternative(flow, 0)
        some = self.go_on(flow.of(rows))
        return flow.hand_on(
            _put(flow.x, rows, some.x),  # type: ignore[arg-type]  # maps of one scale
            {name: _put(flow.beside[name], rows, value) for name, value in some.beside.items()},
            {name: _put(flow.next[name], rows, value) for name, value in some.next.items()},
        )

    def cheapest(self, flow: Flow) -> Flow:
        """Run the first block of a run, and nothing of the others."""
        return self.go_on(flow) if flow.value(LEFT) is None else self.alternative(flow, 0)

    def go_on(self, flow: Flow, run: Tensor | None = None) -> Flow:
        """Run the block and its gate.

        Args:
            flow: the images.
            run: (B, 1), 0 for those that have had enough, which keep their output; else 1, as all without it.
        """
        y, carried = flow.x, state(self.config)
        assert isinstance(y, Tensor)
        before = flow.value(carried)
        x = self.block(y if before is None else before)
        seen, beside = self.sees(x, flow)
        logit = self.gate(seen)
        left = _left(flow) if run is None else _left(flow) * run
        y = x if before is None else y + left.reshape(-1, 1, 1, 1) * (x - before)
        if run is not None:
            # An image that has halted is looked at no more.
            beside = {
                name: torch.where(run > 0, value, flow.beside.get(name, torch.zeros_like(value)))
                for name, value in beside.items()
            }
            logit = logit * run
        handed = {LEFT.name: left - torch.sigmoid(logit), carried.name: x}
        if torch.is_grad_enabled():
            handed[LOGIT.name] = logit
        return flow.hand_on(y, beside, handed)


def _left(flow: Flow) -> Tensor:
    """Return the remaining probability (B, 1), which is 1 at the first block of a run."""
    left = flow.value(LEFT)
    assert isinstance(flow.x, Tensor)
    return flow.x.new_ones((flow.x.shape[0], 1)) if left is None else left


def _put(whole: Tensor, rows: Tensor, part: Tensor) -> Tensor:
    """Return a copy of `whole` with some rows of its own."""
    if whole is part:
        return whole
    y = whole.clone()
    y[rows] = part
    return y
