"""Semantic segmentation: each pixel has one of some classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.metric import Metric
from dynnas.tasks.divergence import adaptive_divergence
from dynnas.tasks.heads import PlaceClassifier
from dynnas.tasks.named import NamedTask
from dynnas.tasks.registry import TASKS
from dynnas.tasks.view import View

_SURE = 0.9
IGNORED = 255
"""The target of pixels that count for nothing, as in Pascal VOC and Cityscapes."""


@TASKS.register("segmentation")
class Segmentation(NamedTask):
    """One class for each pixel: outputs are logits (B, classes, h, w), targets whole numbers (B, H, W).

    Outputs may be coarser than targets: they are enlarged (bilinear) for losses and scores.

    Args:
        classes: their names or number; those of the data if None.
        class_weights: of each class in the loss; all alike if None.
        ignored: the target of pixels that count for nothing.

    Raises:
        TaskError: an argument is out of range.
    """

    name = "segmentation"
    noun = "classes"
    least = 2
    answers = "pixels"
    criteria = ("confidence", "pixels")
    metrics = (
        Metric("mean_iou", "share", "maximize", "intersection over union, the mean over classes"),
        Metric("pixel_accuracy", "share", "maximize", "share of the pixels that are told right"),
    )

    def __init__(
        self,
        classes: int | Sequence[str] | None = None,
        *,
        class_weights: Sequence[float] | None = None,
        ignored: int = IGNORED,
    ) -> None:
        self.take_names(classes)
        self.ignored = ignored
        self.class_weights = self.weights_of(class_weights, "class_weights")

    def of_data(self, targets: Tensor, names: Sequence[str] = ()) -> Self:
        """See `Task.of_data`: targets are (N, H, W), the number of a class or `ignored` for each pixel."""
        if targets.ndim != 3 or targets.is_floating_point() or targets.is_complex():
            raise TaskError(
                f"task segmentation: targets are {targets.dtype} of shape {tuple(targets.shape)}; needed is "
                "the number of a class for each pixel, (N, H, W)"
            )
        values = torch.unique(targets)
        values = values[values != self.ignored]
        least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        given = len(self.names) or len(names) or most + 1
        if least < 0 or most >= given:
            raise TaskError(
                f"task segmentation: targets reach from {least} to {most} but there are {given} classes; "
                f"number them from 0, and pixels that are not to count {self.ignored}"
            )
        known = self.names or tuple(names) or tuple(map(str, range(given)))
        return type(self)(known, class_weights=self.class_weights, ignored=self.ignored)

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build a 1x1 convolution on each map, whose answers are added: (B, classes, H, W) of the finest."""
        return PlaceClassifier(in_channels, self.outputs, dropout)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the cross entropy, as a mean over the pixels that count: (B,)."""
        weight = None if self.class_weights is None else output.new_tensor(self.class_weights)
        target = target.long()
        losses = F.cross_entropy(
            self._enlarged(output, target), target, weight, ignore_index=self.ignored, reduction="none"
        )
        counted = (target != self.ignored).flatten(1).sum(1)
        return losses.flatten(1).sum(1) / counted.clamp(min=1)

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return T^2 times the mean cross entropy to the teacher's softmax over places: (B,).

        A teacher of another size is brought to that of the output first.
        """
        teacher = self._enlarged(teacher, output)
        taught = (teacher / temperature).softmax(1) * (output / temperature).log_softmax(1)
        return -(temperature**2) * taught.sum(1).flatten(1).mean(1)

    def distill_alpha(
        self,
        output: Tensor,
        teacher: Tensor,
        temperature: float = 1.0,
        *,
        alphas: Sequence[float] = (-1.0, 1.0),
        clip: float = 5.0,
    ) -> Tensor:
        """Return T^2 times the mean over places of the largest alpha-divergence: (B,)."""
        teacher = self._enlarged(teacher, output)
        student, taught = ((each / temperature).log_softmax(1) for each in (output, teacher))
        return temperature**2 * adaptive_divergence(student, taught, alphas, clip).flatten(1).mean(1)

    def confidence(self, output: Tensor, criterion: str = "confidence") -> Tensor:
        """Return how sure an output is by its largest softmax, over places: (B,).

        By `confidence` it is the mean; by `pixels` the share of places where it is at least 0.9 (the pixels
        that need no later exit in MESS: Kouris et al. 2022, arXiv:2106.03527, section 4.4).
        """
        sure = output.softmax(1).amax(1).flatten(1)
        return (sure >= _SURE).to(sure.dtype).mean(1) if criterion == "pixels" else sure.mean(1)

    def quality(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the share of correct pixels among those that count: (B,)."""
        counted = target != self.ignored
        right = (self._enlarged(output, target).argmax(1) == target) & counted
        return right.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)

    def in_shape(self, output: Tensor, shape: Sequence[int]) -> Tensor:
        """Return logits (B, classes, h, w) enlarged (bilinear) to a shape (classes, H, W)."""
        if output.ndim == 1 + len(shape) == 4 and output.shape[1] == shape[0]:
            return self._resized(output, shape[1:])
        return super().in_shape(output, shape)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return scores from 0 to 1, over all pixels of the split.

        Means leave out classes that are nowhere.
        """
        count = outputs.shape[1]
        confusion = torch.zeros(count, count, dtype=torch.int64, device=outputs.device)
        for output, target in zip(outputs.split(16), targets.split(16), strict=True):
            counted = target != self.ignored
            said = self._enlarged(output, target).argmax(1)[counted]
            pairs = target[counted].long() * count + said
            confusion += torch.bincount(pairs, minlength=count**2).view(count, count)
        hits = confusion.diagonal().double()
        union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        there = union > 0
        return {
            "mean_iou": (hits[there] / union[there]).mean().item(),
            "pixel_accuracy": (hits.sum() / confusion.sum().clamp(min=1)).item(),
        }

    def moved(self, target: Tensor, view: View) -> Tensor:
        """Move the classes with their pixels; pixels that come in count for nothing: (B, H, W)."""
        return view.map(target, self.ignored)

    def post(self, output: Tensor) -> Tensor:
        """Return the likeliest class of each place: (B, h, w)."""
        return output.argmax(1)

    def summary(self, targets: Tensor) -> str:
        """Describe the classes with the share of pixels of each, the rarest and commonest of many."""
        counts = torch.bincount(targets.flatten().int(), minlength=self.ignored + 1)[: len(self.names)]
        shares = (counts / counts.sum().clamp(min=1)).tolist()
        pairs = sorted(zip(shares, self.names, strict=True))
        if len(pairs) > 6:
            pairs = [pairs[0], pairs[-1]]
        told = ", ".join(f"{name} {share:.1%}" for share, name in pairs)
        return f"{len(self.names)} classes of pixels in training ({told})"

    def missing(self, targets: Tensor) -> tuple[str, ...]:
        """Return the classes without a pixel."""
        there = set(targets.unique().tolist())
        return tuple(name for number, name in enumerate(self.names) if number not in there)

    def describe(self, output: Tensor) -> str:
        """Name the class that most places have."""
        return self.describe_target(output.argmax(0))

    def describe_target(self, target: Tensor) -> str:
        """Name the class that most pixels have."""
        counted = target[target != self.ignored]
        return self.names[int(counted.mode().values)] if counted.numel() else "none"

    def facts(self) -> Mapping[str, Any]:
        """See `Task.facts`."""
        weights = self.class_weights and list(self.class_weights)
        return {
            "task": self.name,
            "names": list(self.names),
            "class_weights": weights,
            "ignored": self.ignored,
        }

    @staticmethod
    def _enlarged(output: Tensor, target: Tensor) -> Tensor:
        return Segmentation._resized(output, target.shape[-2:])

    @staticmethod
    def _resized(output: Tensor, size: Sequence[int]) -> Tensor:
        if tuple(output.shape[-2:]) == tuple(size):
            return output
        return F.interpolate(output, tuple(size), mode="bilinear", align_corners=False)
