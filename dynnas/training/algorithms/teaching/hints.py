"""Hints: maps learn those of a teacher of other channels through a trained layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.training.algorithm import Forward, Run, register_algorithm, setting
from dynnas.training.algorithms.teaching.feature_distillation import FeatureDistillation


@register_algorithm("hints")
@dataclass(eq=False)
class Hints(FeatureDistillation):
    """Feature maps are brought to the teacher's channels by a trained 1x1 convolution, and learn its maps.

    FitNets (Romero et al. 2015, arXiv:1412.6550, equation 3): half of the squared difference between the
    teacher's map and what the regressor makes of the network's, here its mean over values, so that pairs of
    different sizes count alike. The paper trains by hints first and by the teacher's outputs after that, and
    lets convolutions make the sizes alike; here both go on together, and the larger map is averaged down. The
    regressors are thrown away at the end; Adam trains them at a rate of their own.

    Pairs are those of `feature_distillation`, which may stand beside it.
    """

    name = "hints"

    weight: float = setting(1.0, "of the mean loss over pairs", minimum=0.0)
    lr: float = setting(1e-3, "learning rate of the regressors", minimum=0.0)
    by: str = field(default="", init=False)  # maps are compared as they are

    def on_start(self, run: Run) -> None:
        """Find the teacher and the pairs; regressors are made when the first maps are seen."""
        super().on_start(run)
        self.regressors = nn.ModuleDict()
        self._optimizer: torch.optim.Optimizer | None = None

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the mean loss over the pairs that have run."""
        losses = []
        for number, (own, other) in enumerate(self._pairs.items()):
            if self.weight and ("own", own) in self._maps and ("teacher", other) in self._maps:
                maps = self._maps["own", own].float(), self._maps["teacher", other].float()
                regressor = self._regressor(str(number), maps[0].shape[1], maps[1].shape[1], maps[0].device)
                losses.append(hint_loss(regressor(maps[0]), maps[1]))
        return self.weight * torch.stack(losses).mean() if losses else None

    def on_step(self, run: Run) -> None:
        """Move the regressors."""
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the regressors and the state of their optimizer."""
        if self._optimizer is None:
            return {}
        return {"regressors": self.regressors.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with other regressors."""
        for name, weight in state.get("regressors", {}).items():
            if name.endswith(".weight"):
                self._regressor(name.removesuffix(".weight"), weight.shape[1], weight.shape[0], weight.device)
        if self._optimizer is not None and state:
            self.regressors.load_state_dict(state["regressors"])
            self._optimizer.load_state_dict(state["optimizer"])

    def _regressor(self, name: str, before: int, after: int, device: torch.device) -> nn.Module:
        if name not in self.regressors:
            made = nn.Conv2d(before, after, 1, device=device)
            self.regressors[name] = made
            if self._optimizer is None:
                self._optimizer = torch.optim.Adam(made.parameters(), lr=self.lr)
            else:
                self._optimizer.add_param_group({"params": list(made.parameters())})
        return self.regressors[name]


def hint_loss(own: Tensor, teacher: Tensor) -> Tensor:
    """Return half of the mean squared difference of two maps (B, C, H, W), the larger averaged down: ()."""
    size = min(own.shape[2], teacher.shape[2]), min(own.shape[3], teacher.shape[3])
    own, teacher = (F.adaptive_avg_pool2d(x, size) for x in (own, teacher))
    return (own - teacher).square().mean() / 2
