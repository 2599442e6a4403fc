"""The gradient estimator of gates while they learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from dynnas.nn.context import Context
from dynnas.nn.gates.mode import Estimator, GateMode
from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting

STILL = 0.75
"""Share of the training after which gates decide without noise."""


@register_algorithm("gate_learning")
@dataclass(eq=False)
class GateLearning(Algorithm):
    """The estimator of gates, its temperature, and noise that falls to nothing.

    A gate that runs a block for each image with probability 0.7 would run it for all of them in the finished
    network: gates are to end as they will decide.
    """

    name = "gate_learning"

    estimator: str = setting(
        "gumbel",
        "how gates learn: by draws, by their largest logit, by shares of everything that are not drawn, by "
        "shares for half of the images (semhash), or by what becomes of an image after a draw (reinforce)",
        choices=("gumbel", "straight", "soft", "semhash", "reinforce"),
    )
    reinforce_epochs: float = setting(
        0.0, "number of last epochs in which gates learn by reinforce, after the other way", minimum=0.0
    )
    temperature: float = setting(1.0, "softmax temperature of gates that learn", minimum=0.01)
    noise: float = setting(1.0, "scale of the gates' noise at the start", minimum=0.0)

    def context(self, run: Run, context: Context) -> Context:
        """Set this step's mode."""
        mode = replace(
            context[GateMode],
            estimator=self.estimator_at(run),
            temperature=self.temperature,
            noise=self.noise * max(0.0, 1 - run.step / (STILL * run.total)),
        )
        return context.replace(mode)

    def estimator_at(self, run: Run) -> Estimator:
        """Return the estimator of the current step."""
        since = (run.total_epochs - self.reinforce_epochs) * run.steps_per_epoch
        return "reinforce" if run.step >= since else cast(Estimator, self.estimator)
