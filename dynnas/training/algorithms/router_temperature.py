"""The temperature of routers that mix kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@register_algorithm("router_temperature")
@dataclass(eq=False)
class RouterTemperature(Algorithm):
    """The softmax temperature of routers falls linearly to 1 (DY-CNN: Chen et al. 2020, arXiv:1912.03458).

    Section 3.3 of the paper: at a high temperature all kernels of a bank learn.
    """

    name = "router_temperature"

    start: float = setting(30.0, "softmax temperature of dyconv's routers at the start", minimum=1.0)
    epochs: float | None = setting(
        None, "epochs over which it falls to 1; half of the training if not given", minimum=0.0
    )

    def context(self, run: Run, context: Context) -> Context:
        """Set this step's temperature."""
        return context.replace(replace(context[RouterMode], temperature=self.at(run)))

    def at(self, run: Run) -> float:
        """Return the temperature of the current step."""
        steps = (run.total_epochs / 2 if self.epochs is None else self.epochs) * run.steps_per_epoch
        left = max(0.0, 1 - run.step / steps) if steps else 0.0
        return 1 + (self.start - 1) * left
