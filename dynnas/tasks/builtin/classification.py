"""Classification: each image has one of some classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.metric import Metric
from dynnas.tasks.divergence import adaptive_divergence
from dynnas.tasks.heads import PooledLinear
from dynnas.tasks.intervals import Interval, wilson
from dynnas.tasks.named import NamedTask
from dynnas.tasks.ranking import mean_auroc
from dynnas.tasks.registry import TASKS


@TASKS.register("classification")
class Classification(NamedTask):
    """One class for each image: outputs are logits (B, classes), targets int64 (B,).

    Args:
        classes: their names or number; those of the data if None.
        label_smoothing: of the cross entropy (Szegedy 2016, arXiv:1512.00567, section 7); that of the
            training (`train.label_smoothing`) if None, and 0 outside of one.
        class_weights: of each class in the loss, such as the reciprocals of their frequencies; all alike if
            None.
        top: the number of likeliest classes among which `top5_accuracy` looks; another number than 5 is in
            the name of the metric, as `top3_accuracy`.

    Raises:
        TaskError: an argument is out of range.
    """

    name = "classification"
    noun = "classes"
    least = 2
    metrics: tuple[Metric, ...] = (
        Metric("accuracy", "share", "maximize", "share of the images that are told right"),
        Metric("balanced_accuracy", "share", "maximize", "mean over classes of the share that is told right"),
        Metric("top5_accuracy", "share", "maximize", "share whose class is among the five likeliest"),
        Metric("f1", "share", "maximize", "mean over classes of the F1 score"),
        Metric(
            "auroc", "share", "maximize", "mean over classes of the area under the ROC curve, one against all"
        ),
    )
    criteria: ClassVar[tuple[str, ...]] = ("confidence", "entropy")
    doubts: ClassVar[int] = 3

    def __init__(
        self,
        classes: int | Sequence[str] | None = None,
        *,
        label_smoothing: float | None = None,
        class_weights: Sequence[float] | None = None,
        top: int = 5,
    ) -> None:
        self.take_names(classes)
        if top < 2:
            raise TaskError(f"task classification: top is {top}; it is at least 2")
        self.top = top
        if top != 5:
            told = Metric(
                f"top{top}_accuracy", "share", "maximize", f"share whose class is among the {top} likeliest"
            )
            self.metrics = tuple(
                told if each.name == "top5_accuracy" else each for each in type(self).metrics
            )
        if label_smoothing is not None and not 0 <= label_smoothing < 1:
            raise TaskError(
                f"task classification: label_smoothing is {label_smoothing}; it is at least 0 and less than 1"
            )
        self.label_smoothing = label_smoothing
        self.class_weights = self.weights_of(class_weights, "class_weights")

    def of_data(self, targets: Tensor, names: Sequence[str] = ()) -> Self:
        """See `Task.of_data`: targets are whole numbers from 0; classes without names are called by them."""
        if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
            raise TaskError(
                f"task classification: targets are {targets.dtype} of shape {tuple(targets.shape)}; "
                "needed is the number of a class for each image, from 0"
            )
        least, most = (int(targets.min()), int(targets.max())) if len(targets) else (0, 0)
        given = len(self.names) or len(names) or most + 1
        if self.names and names and len(self.names) != len(names):
            raise TaskError(
                f"task classification: it has {len(self.names)} classes but the data {len(names)}; "
                "leave `classes` out, or give data that have as many"
            )
        if least < 0 or most >= given:
            raise TaskError(
                f"task classification: targets reach from {least} to {most} but there are {given} classes; "
                "number them from 0"
            )
        numbered = tuple(map(str, range(given)))
        known = self.names if self.names and self.names != numbered else tuple(names) or numbered
        return type(self)(
            known, label_smoothing=self.label_smoothing, class_weights=self.class_weights, top=self.top
        )

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build the mean over positions of the coarsest map, dropout, and a linear layer: (B, classes)."""
        return PooledLinear(in_channels, self.outputs, dropout)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the cross entropy of the logits to the classes, smoothed and weighted as asked: (B,)."""
        weight = None if self.class_weights is None else output.new_tensor(self.class_weights)
        return F.cross_entropy(
            output, target, weight=weight, label_smoothing=self.label_smoothing or 0.0, reduction="none"
        )

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return T^2 times the cross entropy to the teacher's softmax, both divided by T: (B,).

        Its gradient is that of T^2 KL(teacher, student) (Hinton 2015, arXiv:1503.02531, section 2): T^2 keeps
        it as large as the labels' at any temperature.
        """
        taught = (teacher / temperature).softmax(1) * (output / temperature).log_softmax(1)
        return -(temperature**2) * taught.sum(1)

    def distill_alpha(
        self,
        output: Tensor,
        teacher: Tensor,
        temperature: float = 1.0,
        *,
        alphas: Sequence[float] = (-1.0, 1.0),
        clip: float = 5.0,
    ) -> Tensor:
        """Return T^2 times the largest alpha-divergence of the softmax from the teacher's: (B,)."""
        student, taught = ((each / temperature).log_softmax(1) for each in (output, teacher))
        return temperature**2 * adaptive_divergence(student, taught, alphas, clip)

    def confidence(self, output: Tensor, criterion: str = "confidence") -> Tensor:
        """Return the largest softmax, or for `entropy` 1 minus the normalised entropy of the softmax: (B,).

        BranchyNet (Teerapittayanon 2016, arXiv:1709.01686) leaves where the entropy is low enough.
        """
        if criterion == "entropy":
            return (1 - self._evenness(output)[:, 0]).clamp(min=0)  # rounding may end a little below
        return torch.softmax(output, dim=1).amax(dim=1)

    def doubt(self, output: Tensor) -> Tensor:
        """Return the largest softmax, its distance from the second, and the normalised entropy: (B, 3).

        What is known of an exit's doubt, as in JEI-DNN (Regol 2024, arXiv:2310.09163); more inputs gained
        nothing (studies/msd-cifar10).
        """
        first, second = output.softmax(dim=1).topk(2, dim=1).values.split(1, dim=1)
        return torch.cat([first, first - second, self._evenness(output)], dim=1)

    def _evenness(self, output: Tensor) -> Tensor:
        """Return the entropy of the softmax divided by that of a uniform one, (B, classes) to (B, 1)."""
        entropy = -(output.softmax(dim=1) * F.log_softmax(output, dim=1)).sum(dim=1, keepdim=True)
        # The task's own number where it is known: one read from a tensor cannot be traced.
        return entropy / math.log(len(self.names) or output.shape[1])

    def quality(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 where the likeliest class is the image's, else 0: (B,)."""
        return (output.argmax(dim=1) == target).to(torch.float32)

    def agrees(self, output: Tensor, other: Tensor) -> Tensor:
        """Return whether the likeliest class is the same: (B,) bool."""
        return output.argmax(dim=1) == other.argmax(dim=1)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return scores from 0 to 1; means over classes leave out classes without an image."""
        answers = outputs.argmax(dim=1)
        right = answers == targets
        count = outputs.shape[1]
        hits = torch.bincount(targets[right], minlength=count).double()
        there = torch.bincount(targets, minlength=count).double()
        said = torch.bincount(answers, minlength=count).double()
        seen = there > 0
        likeliest = outputs.topk(min(self.top, count), dim=1).indices
        there_of = F.one_hot(targets, count).bool()
        return {
            "accuracy": right.double().mean().item(),
            "balanced_accuracy": (hits[seen] / there[seen]).mean().item(),
            f"top{self.top}_accuracy": (likeliest == targets[:, None]).any(dim=1).double().mean().item(),
            "f1": (2 * hits[seen] / (there[seen] + said[seen])).mean().item(),
            "auroc": mean_auroc(outputs.softmax(dim=1), there_of),
        }

    def intervals(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Interval]:
        """Return Wilson's interval of the accuracy."""
        share = (outputs.argmax(dim=1) == targets).double().mean().item()
        return {"accuracy": wilson(share, len(targets))}

    def post(self, output: Tensor) -> Tensor:
        """Return the probability of each class: (B, classes)."""
        return output.softmax(dim=1)

    def summary(self, targets: Tensor) -> str:
        """Describe the classes with the number of images of each, the fewest first where there are many."""
        return classes_in_words(self.names, torch.bincount(targets, minlength=len(self.names)).tolist())

    def missing(self, targets: Tensor) -> tuple[str, ...]:
        """Return the classes without an image."""
        counts = torch.bincount(targets, minlength=len(self.names)).tolist()
        return tuple(name for name, count in zip(self.names, counts, strict=True) if not count)

    def describe(self, output: Tensor) -> str:
        """Name the likeliest class."""
        return self.names[int(output.argmax())]

    def describe_target(self, target: Tensor) -> str:
        """Name the class."""
        return self.names[int(target)]

    def smoothed(self, share: float) -> Self:
        """Return the task with this label smoothing, if it was made without one."""
        if self.label_smoothing is not None:
            return self
        return type(self)(
            self.names or None, label_smoothing=share, class_weights=self.class_weights, top=self.top
        )

    def facts(self) -> Mapping[str, Any]:
        """See `Task.facts`."""
        return {
            "task": self.name,
            "names": list(self.names),
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights and list(self.class_weights),
            **({"top": self.top} if self.top != 5 else {}),
        }


def classes_in_words(names: Sequence[str], counts: Sequence[int]) -> str:
    """Count the images of each class in words.

    Of more than six classes only the rarest and commonest are named.
    """
    pairs = sorted(zip(counts, names, strict=True), key=lambda pair: pair[0])
    if len(pairs) <= 6:
        told = ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
        return f"{len(pairs)} classes in training ({told})"
    (least, rarest), (most, commonest) = pairs[0], pairs[-1]
    if least == most:
        return f"{len(pairs)} classes of {least:,} training images each"
    return f"{len(pairs)} classes in training, from {least:,} ({rarest}) to {most:,} ({commonest})"
