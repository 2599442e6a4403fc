"""The budget of gates as a constraint, whose price is learned (a Lagrangian), in place of a fixed weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dynnas.nn.gates.costs import GateCost, total_macs
from dynnas.nn.gates.gate import Decision
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("gate_lagrangian")
@dataclass(eq=False)
class GateLagrangian(Algorithm):
    """Gates are to use at most their targets, and the price of more follows from how far they are from that.

    With c = E[MACs] / (t F0) - 1, the loss has the term p c, and after a step p becomes max(0, p + rate c):
    gradient descent and ascent on the Lagrangian (Gallego-Posada et al. 2022, arXiv:2208.04425, section 3).
    With `restarts` p is 0 as soon as the constraint is met, so that a long time beyond it is not paid for
    afterwards. There is no weight to tune. It is meant in the place of `gate_budget`, which also asks gates
    that use too little to use more.

    In a supernet one price holds for all networks, whose targets may differ: c is relative to them.
    """

    name = "gate_lagrangian"
    records = (Decision,)

    rate: float = setting(0.1, "how fast the price follows the constraint", minimum=0.0)
    restarts: bool = setting(True, "whether the price is 0 as soon as the constraint is met")

    def on_start(self, run: Run) -> None:
        """Begin without a price."""
        self.price = 0.0
        self._excess: list[float] = []

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the price of what gates use beyond their targets, where there are gates."""
        decided = forward.trace.of(Decision)
        if not decided:
            return None
        costs = forward.costs()
        excess = run.batch.mean(total_macs(costs, decided)) / allowed_macs(costs) - 1
        self._excess.append(float(excess.detach()))
        return self.price * excess

    def image_penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return each image's part in it."""
        decided = forward.trace.of(Decision)
        if not decided:
            return None
        costs = forward.costs()
        return self.price * (total_macs(costs, decided).detach() / allowed_macs(costs) - 1)

    def on_step(self, run: Run) -> None:
        """Move the price."""
        if self._excess:
            excess = sum(self._excess) / len(self._excess)
            met = self.restarts and excess <= 0
            self.price = 0.0 if met else max(0.0, self.price + self.rate * excess)
        self._excess = []

    def state_dict(self) -> dict[str, Any]:
        """Return the price."""
        return {"price": self.price}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with another price."""
        self.price = float(state["price"])


def allowed_macs(costs: Sequence[GateCost]) -> float:
    """Return the multiply-adds that the targets of all gates allow together."""
    return sum(cost.target * cost.full for cost in costs)
