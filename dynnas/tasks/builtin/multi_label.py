"""Multi-label classification: each image has any of some labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.metric import Metric
from dynnas.tasks.divergence import adaptive_divergence
from dynnas.tasks.heads import PooledLinear
from dynnas.tasks.intervals import Interval, bootstrap
from dynnas.tasks.named import NamedTask
from dynnas.tasks.ranking import mean_auroc
from dynnas.tasks.registry import TASKS


@TASKS.register("multi_label")
class MultiLabel(NamedTask):
    """Any of some labels for each image: outputs are logits (B, labels), targets (B, labels) of 0 and 1.

    Args:
        labels: their names or number; those of the data if None.
        positive_weights: of each label's presence in the loss, such as absent / present; all 1 if None.

    Raises:
        TaskError: an argument is out of range.
    """

    name = "multi_label"
    noun = "labels"
    metrics = (
        Metric("mean_average_precision", "share", "maximize", "mean over labels of the average precision"),
        Metric("label_accuracy", "share", "maximize", "share of all labels of all images that are right"),
        Metric("exact_match", "share", "maximize", "share of the images whose labels are all right"),
        Metric("auroc", "share", "maximize", "mean over labels of the area under the ROC curve"),
        Metric("label_f1", "share", "maximize", "mean over labels of the F1 score"),
    )
    doubts: ClassVar[int] = 1

    def __init__(
        self,
        labels: int | Sequence[str] | None = None,
        *,
        positive_weights: Sequence[float] | None = None,
    ) -> None:
        self.take_names(labels)
        self.positive_weights = self.weights_of(positive_weights, "positive_weights")

    def of_data(self, targets: Tensor, names: Sequence[str] = ()) -> Self:
        """See `Task.of_data`: targets are (N, labels) of 0 and 1."""
        if targets.ndim != 2 or not ((targets == 0) | (targets == 1)).all():
            raise TaskError(
                f"task multi_label: targets are {targets.dtype} of shape {tuple(targets.shape)}; needed is a "
                "row of 0 and 1 for each image, one for each label"
            )
        for told, count in (("it has", len(self.names)), ("the data name", len(names))):
            if count and count != targets.shape[1]:
                raise TaskError(
                    f"task multi_label: {told} {count} labels but the targets have {targets.shape[1]}; "
                    "give as many"
                )
        known = self.names or tuple(names) or tuple(map(str, range(targets.shape[1])))
        return type(self)(known, positive_weights=self.positive_weights)

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build the mean over positions of the coarsest map, dropout, and a linear layer: (B, labels)."""
        return PooledLinear(in_channels, self.outputs, dropout)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the binary cross entropy, as a mean over labels: (B,)."""
        weight = None if self.positive_weights is None else output.new_tensor(self.positive_weights)
        losses = F.binary_cross_entropy_with_logits(
            output, target.to(output.dtype), pos_weight=weight, reduction="none"
        )
        return losses.mean(1)

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return T^2 times the binary cross entropy to the teacher's sigmoid, both divided by T: (B,)."""
        losses = F.binary_cross_entropy_with_logits(
            output / temperature, (teacher / temperature).sigmoid(), reduction="none"
        )
        return temperature**2 * losses.mean(1)

    def distill_alpha(
        self,
        output: Tensor,
        teacher: Tensor,
        temperature: float = 1.0,
        *,
        alphas: Sequence[float] = (-1.0, 1.0),
        clip: float = 5.0,
    ) -> Tensor:
        """Return T^2 times the mean over labels of the largest alpha-divergence: (B,)."""
        both = [torch.stack([each, -each], 1) / temperature for each in (output, teacher)]
        student, taught = (F.logsigmoid(each) for each in both)
        return temperature**2 * adaptive_divergence(student, taught, alphas, clip).mean(1)

    def confidence(self, output: Tensor, criterion: str = "confidence") -> Tensor:
        """Return the mean distance of the probabilities from a half, scaled to 0..1: (B,)."""
        return (2 * output.sigmoid() - 1).abs().mean(1)

    def quality(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the share of labels that are right: (B,)."""
        return ((output > 0) == (target > 0)).to(torch.float32).mean(1)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return scores from 0 to 1; average precision leaves out labels that no image has."""
        right = (outputs > 0) == (targets > 0)
        precisions = [
            average_precision(outputs[:, label], targets[:, label] > 0)
            for label in range(outputs.shape[1])
            if (targets[:, label] > 0).any()
        ]
        return {
            "mean_average_precision": sum(precisions) / len(precisions) if precisions else 0.0,
            "label_accuracy": right.double().mean().item(),
            "exact_match": right.all(1).double().mean().item(),
            "auroc": mean_auroc(outputs, targets > 0),
            "label_f1": _f1(outputs > 0, targets > 0),
        }

    def intervals(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Interval]:
        """Return the intervals of all scores by the bootstrap."""
        return bootstrap(self.score, outputs, targets)

    def post(self, output: Tensor) -> Tensor:
        """Return the probability of each label: (B, labels)."""
        return output.sigmoid()

    def describe(self, output: Tensor) -> str:
        """Name the labels that are likelier than not."""
        return self.describe_target(output > 0)

    def describe_target(self, target: Tensor) -> str:
        """Name the labels."""
        there = [name for name, value in zip(self.names, target.tolist(), strict=True) if value]
        return ", ".join(there) or "none"

    def facts(self) -> Mapping[str, Any]:
        """See `Task.facts`."""
        weights = self.positive_weights and list(self.positive_weights)
        return {"task": self.name, "names": list(self.names), "positive_weights": weights}


def average_precision(scores: Tensor, present: Tensor) -> float:
    """Return the sum over thresholds of precision times the gain in recall, for (N,) and bool (N,)."""
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], present[order].double().cumsum(0)
    last = torch.cat([ranked[1:] != ranked[:-1], ranked.new_ones(1, dtype=torch.bool)])  # of equal scores
    counts = torch.arange(1, len(scores) + 1, device=scores.device)[last]
    hits = hits[last]
    gains = torch.diff(hits, prepend=hits.new_zeros(1))
    return ((hits / counts) * gains).sum().item() / max(1.0, hits[-1].item())


def _f1(said: Tensor, there: Tensor) -> float:
    """Return the mean over labels (N, L) that an image has of the F1 score."""
    seen = there.any(0)
    if not seen.any():
        return 0.0
    hits, total = (said & there).sum(0).double(), said.sum(0).double() + there.sum(0).double()
    return float((2 * hits[seen] / total[seen]).mean())
