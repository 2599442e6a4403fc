"""A task made of two functions, for outputs without a built-in task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dynnas.errors import TaskError
from dynnas.metric import Direction, Metric
from dynnas.tasks.task import Task


class FunctionTask(Task):
    """A task made by `from_functions`."""

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Tensor, Tensor], Mapping[str, float]],
        metrics: Mapping[str, Direction],
        name: str,
        outputs: int | None,
        head: Callable[[Sequence[int], Sequence[int]], nn.Module] | None = None,
    ) -> None:
        if not metrics:
            raise TaskError(f"task {name}: it needs at least one metric, such as {{'psnr': 'maximize'}}")
        for metric, direction in metrics.items():
            if direction not in ("maximize", "minimize"):
                raise TaskError(
                    f"task {name}: metric {metric!r} is to be {direction!r}; say maximize or minimize"
                )
        self.name, self._outputs = name, outputs
        self.metrics = tuple(Metric(each, "", direction, each) for each, direction in metrics.items())
        self._loss, self._score, self._head = loss, score, head

    @property
    def outputs(self) -> int:
        """Return the number that was given.

        Raises:
            TaskError: it was not told.
        """
        if self._outputs is None:
            raise TaskError(
                f"task {self.name}: how many numbers a network says is not known; give outputs=..., or "
                "search networks of your own"
            )
        return self._outputs

    @property
    def has_own_head(self) -> bool:
        """True if a function for the head was given."""
        return self._head is not None

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build what the function builds; dropout is its own affair."""
        if self._head is None:
            return super().head(in_channels, strides, dropout=dropout)
        return self._head(in_channels, strides)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the function: (B,).

        Raises:
            TaskError: it is not one number for each image.
        """
        losses = self._loss(output, target)
        if losses.shape != (len(target),):
            raise TaskError(
                f"task {self.name}: its loss has the shape {tuple(losses.shape)} for {len(target)} images; "
                "it must be one number for each: leave out the last mean (reduction='none')"
            )
        return losses

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return the scores of the function, in the order of `metrics`.

        Raises:
            TaskError: one is missing.
        """
        found = self._score(outputs, targets)
        if missing := [metric.name for metric in self.metrics if metric.name not in found]:
            raise TaskError(
                f"task {self.name}: its score function gives {', '.join(found)} but not {', '.join(missing)}"
            )
        return {metric.name: float(found[metric.name]) for metric in self.metrics}

    def facts(self) -> Mapping[str, Any]:
        """See `Task.facts`; the number of outputs may be unknown."""
        return {"task": self.name, "outputs": self._outputs}


def from_functions(
    loss: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[Tensor, Tensor], Mapping[str, float]],
    metrics: Mapping[str, Direction],
    *,
    name: str = "own",
    outputs: int | None = None,
    head: Callable[[Sequence[int], Sequence[int]], nn.Module] | None = None,
) -> Task:
    """Make a task of a loss and a score, for networks that bring their own head or end in that of the task.

    Args:
        loss: of outputs (B, ...) and targets (B, ...), one number for each image: (B,).
        score: of all outputs (N, ...) and targets (N, ...) of a split, numbers by the names of `metrics`.
        metrics: "maximize" or "minimize" by name; the first ranks candidates.
        name: of the task in studies.
        outputs: how many numbers a network says, where its class asks.
        head: builds the head from the channels and the strides of maps, the finest first; see `Task.head`.

    Raises:
        TaskError: a metric has no direction, or there is none.

    Example: restoring images, judged by the peak signal-to-noise ratio in decibels.

        >>> import torch
        >>> import dynnas
        >>> def loss(output, target):
        ...     return (output - target).abs().flatten(1).mean(1)
        >>> def score(outputs, targets):
        ...     return {"psnr": float(-10 * (outputs - targets).square().mean().log10())}
        >>> task = dynnas.tasks.from_functions(loss, score, {"psnr": "maximize"})
        >>> round(task.score(torch.full((4, 1, 8, 8), 0.1), torch.zeros(4, 1, 8, 8))["psnr"], 3)
        20.0
    """
    return FunctionTask(loss, score, metrics, name, outputs, head)
