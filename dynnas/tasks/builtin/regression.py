"""Regression: each image has one number, or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.metric import Metric
from dynnas.tasks.heads import PooledLinear
from dynnas.tasks.intervals import Interval, bootstrap
from dynnas.tasks.named import NamedTask
from dynnas.tasks.registry import TASKS


@TASKS.register("regression")
class Regression(NamedTask):
    """Numbers for each image: outputs (B, numbers) are in standard deviations from the mean.

    Targets are (B, numbers). A single number may also be a target (B,). Scores and what ships are in the
    units of the targets.

    Args:
        numbers: their names or how many; those of the data if None.
        loss: `squared`, half of the squared error, or `huber`, beyond one deviation the absolute one.
        mean, std: of each number; those of the training targets if None.

    Raises:
        TaskError: an argument is out of range.
    """

    name = "regression"
    noun = "numbers"
    metrics = (
        Metric("rmse", "targets", "minimize", "root of the mean squared error, the mean over numbers"),
        Metric("mae", "targets", "minimize", "mean absolute error"),
        Metric("r2", "share", "maximize", "share of the variance that is explained, the mean over numbers"),
    )

    def __init__(
        self,
        numbers: int | Sequence[str] | None = None,
        *,
        loss: str = "squared",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.take_names(numbers)
        if loss not in ("squared", "huber"):
            raise TaskError(f"task regression: loss is {loss!r}; allowed are squared, huber")
        if (mean is None) != (std is None):
            raise TaskError("task regression: give mean and std both, or none of them")
        if std is not None and not all(value > 0 for value in std):
            raise TaskError(f"task regression: std is {tuple(std)}; each is above 0")
        self.kind = loss
        self.mean = None if mean is None else tuple(map(float, mean))
        self.std = None if std is None else tuple(map(float, std))

    def of_data(self, targets: Tensor, names: Sequence[str] = ()) -> Self:
        """See `Task.of_data`: mean and deviation are those of the targets, unless they are given."""
        if targets.ndim not in (1, 2) or targets.is_complex() or not torch.isfinite(targets).all():
            raise TaskError(
                f"task regression: targets are {targets.dtype} of shape {tuple(targets.shape)}; needed are "
                "finite numbers, (N,) or (N, numbers)"
            )
        rows = targets.reshape(len(targets), -1).double()
        known = self.names or tuple(names) or tuple(map(str, range(rows.shape[1])))
        if len(known) != rows.shape[1]:
            raise TaskError(
                f"task regression: {len(known)} names for targets of {rows.shape[1]} numbers; give as many"
            )
        std = rows.std(0, correction=0)
        if self.std is None and not (std > 0).all():
            constant = known[int((std == 0).nonzero()[0])]
            raise TaskError(f"task regression: {constant!r} is the same for every image; leave it out")
        mean, deviation = (self.mean, self.std) if self.std else (rows.mean(0).tolist(), std.tolist())
        return type(self)(known, loss=self.kind, mean=mean, std=deviation)

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build the mean over positions of the coarsest map, dropout, and a linear layer: (B, numbers)."""
        return PooledLinear(in_channels, self.outputs, dropout)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the error in standard deviations, squared or Huber's, as a mean over numbers: (B,)."""
        return self._error(output, self._standardised(target, output))

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the same error against the teacher's output; the temperature has no meaning here: (B,)."""
        return self._error(output, teacher)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return the errors in the targets' units."""
        said = self.post(outputs.double())
        truth = targets.reshape(said.shape).double()
        squared = (said - truth).square().mean(0)
        variance = truth.var(0, correction=0).clamp(min=1e-300)
        return {
            "rmse": squared.sqrt().mean().item(),
            "mae": (said - truth).abs().mean().item(),
            "r2": (1 - squared / variance).mean().item(),
        }

    def intervals(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Interval]:
        """Return the intervals of all scores by the bootstrap."""
        return bootstrap(self.score, outputs, targets)

    def post(self, output: Tensor) -> Tensor:
        """Return the numbers in the targets' units: (B, numbers)."""
        if self.mean is None or self.std is None:
            return output
        return output * output.new_tensor(self.std) + output.new_tensor(self.mean)

    def describe(self, output: Tensor) -> str:
        """Spell the numbers."""
        return self.describe_target(self.post(output[None])[0])

    def describe_target(self, target: Tensor) -> str:
        """Spell the numbers."""
        return ", ".join(f"{value:.4g}" for value in target.reshape(-1).tolist())

    def facts(self) -> Mapping[str, Any]:
        """See `Task.facts`."""
        return {
            "task": self.name,
            "names": list(self.names),
            "loss": self.kind,
            "mean": self.mean and list(self.mean),
            "std": self.std and list(self.std),
        }

    def _standardised(self, target: Tensor, like: Tensor) -> Tensor:
        rows = target.to(like.dtype).reshape(like.shape)
        if self.mean is None or self.std is None:
            return rows
        return (rows - like.new_tensor(self.mean)) / like.new_tensor(self.std)

    def _error(self, output: Tensor, wanted: Tensor) -> Tensor:
        if self.kind == "huber":
            return F.huber_loss(output, wanted, reduction="none").mean(1)
        return (output - wanted).square().mean(1) / 2
