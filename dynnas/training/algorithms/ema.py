"""The running average of the weights, which is steadier than the weights after any one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@register_algorithm("ema")
@dataclass(eq=False)
class Ema(Algorithm):
    """An exponential moving average of all weights, which ships in their place (Polyak and Juditsky 1992).

    The decay of step t is min(decay, (1 + t) / (10 + t)): an average that starts slow would remember the
    first weights for as long as a short training lasts. It is torch's `AveragedModel`. Batch-norm statistics
    are no part of it: they are set for the averaged weights when the training ends.
    """

    name = "ema"

    decay: float = setting(0.999, "largest decay of the average", minimum=0.0, maximum=1.0)

    def on_start(self, run: Run) -> None:
        """Begin with the initial weights."""
        self._step = 0
        self.average = AveragedModel(run.module, avg_fn=self._averaged)
        self.average.n_averaged.fill_(1)  # so that the first update averages, instead of copying

    def _averaged(self, average: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        return average.lerp(value, 1 - decay)

    def on_step(self, run: Run) -> None:
        """Take in the weights after the step."""
        self._step = run.step
        self.average.update_parameters(run.module)

    @torch.no_grad()
    def on_finish(self, run: Run) -> None:
        """Put the average in the place of the weights."""
        for own, averaged in zip(run.module.parameters(), self.average.parameters(), strict=True):
            own.copy_(averaged)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged parameters by name."""
        return {name: value.detach() for name, value in self.average.module.named_parameters()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from another average."""
        for name, value in self.average.module.named_parameters():
            value.copy_(state[name])
