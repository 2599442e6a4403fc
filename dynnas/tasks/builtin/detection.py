"""Object detection: boxes around things, each with a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.metric import Metric
from dynnas.tasks.assignment import assign
from dynnas.tasks.boxes import THRESHOLDS, areas, average_precision, giou, iou, matches
from dynnas.tasks.detection_head import DetectionHead
from dynnas.tasks.detections import DETECTION, FIELDS, Detections, filled_up, rescaled
from dynnas.tasks.named import NamedTask
from dynnas.tasks.registry import TASKS
from dynnas.tasks.view import View

_SURE = 0.3


@TASKS.register("detection")
class Detection(NamedTask):
    """Boxes with classes: targets (B, M, 5) of class, x1, y1, x2, y2 in pixels; rows of class -1 are none.

    Outputs are those of `DetectionHead`: (B, L, 7 + classes) while a network is trained, and detections
    (B, D, 6) in evaluation mode, so that decoding and suppression are a part of what is timed and shipped.

    Args:
        classes: their names or number; those of the data if None.
        box_weight: of the loss of boxes, beside that of classes.
        detections: how outputs become detections.

    Raises:
        TaskError: an argument is out of range.
    """

    name = "detection"
    noun = "classes"
    answers = "boxes"
    metrics = (
        Metric("ap50", "share", "maximize", "average precision at an overlap of 0.5, the mean over classes"),
        Metric(
            "ap", "share", "maximize", "average precision, the mean over overlaps from 0.5 to 0.95 (COCO)"
        ),
        Metric("recall", "share", "maximize", "share of the boxes that are found at an overlap of 0.5"),
    )

    def __init__(
        self,
        classes: int | Sequence[str] | None = None,
        *,
        box_weight: float = 2.0,
        detections: Detections | None = None,
    ) -> None:
        self.take_names(classes)
        if box_weight <= 0:
            raise TaskError(f"task detection: box_weight is {box_weight}; it is above 0")
        self.box_weight, self.detections = box_weight, detections or Detections()

    made_of: ClassVar[frozenset[str]] = frozenset({"detections"})

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Self:
        """Make the task with options by name; those of `Detections` are told beside its own."""
        known = {each.name for each in fields(Detections)}
        own = {name: value for name, value in options.items() if name not in known}
        found = super().of_options(own)
        try:
            found.detections = Detections(**{name: options[name] for name in known & options.keys()})
        except (TypeError, ValueError) as error:
            raise TaskError(f"data.task_options: detection does not take them ({error})") from error
        return found

    def of_data(self, targets: Tensor, names: Sequence[str] = ()) -> Self:
        """Read the classes from the data: see `Task.of_data`.

        Rows of targets are class, x1, y1, x2, y2, and have -1 for a class where there is no box.
        """
        if targets.ndim != 3 or targets.shape[2] != 5 or not targets.is_floating_point():
            raise TaskError(
                f"task detection: targets are {targets.dtype} of shape {tuple(targets.shape)}; needed are "
                "floats (N, M, 5): class, x1, y1, x2, y2 of each box, and rows of -1 where an image has fewer"
            )
        there = targets[targets[..., 0] >= 0]
        most = int(there[:, 0].max()) if len(there) else 0
        given = len(self.names) or len(names) or most + 1
        if most >= given:
            raise TaskError(
                f"task detection: classes reach to {most} but there are {given}; number them from 0"
            )
        if not (there[:, 3:] > there[:, 1:3]).all():
            wrong = there[(there[:, 3:] <= there[:, 1:3]).any(1)][0].tolist()
            raise TaskError(f"task detection: the box {wrong[1:]} is empty; x2 is above x1, and y2 above y1")
        known = self.names or tuple(names) or tuple(map(str, range(given)))
        return type(self)(known, box_weight=self.box_weight, detections=self.detections)

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build an anchor-free head on the maps, which needs no dropout."""
        return DetectionHead(in_channels, strides, self.outputs, detections=self.detections)

    def rescaled(self, output: Tensor, scale: tuple[float, float]) -> Tensor:
        """Return outputs (B, L, 7 + classes) or detections (B, D, 6) in pixels of the data."""
        return rescaled(output, scale)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the cross entropy of classes and the generalised overlap of boxes: (B,).

        Places are assigned to boxes by how well they do both, and their class is to be as sure as the box is
        good (TOOD, Feng 2021, arXiv:2108.07755). Losses of classes are focal, so that the many places with
        nothing do not drown small and rare things.
        """
        boxes, logits = output[..., :4], output[..., FIELDS:]
        wanted, matched, taken = assign(output.detach(), target.to(output.dtype))
        losses = _focal(logits, wanted).flatten(1).sum(1)
        apart = ((1 - giou(boxes, matched)) * taken).sum(1) / taken.sum(1).clamp(min=1)
        return losses / wanted.flatten(1).sum(1).clamp(min=1) + self.box_weight * apart

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Compute the same loss with the teacher's answer for a target: (B,).

        Of outputs at the same places every place is taught, by how sure the teacher is of it. Of a teacher
        at other places, or in evaluation mode, the detections of a score of at least 0.3 are targets. The
        temperature has no meaning here.
        """
        if teacher.shape[1:] != output.shape[1:]:
            teacher = self._detected(teacher)
            kinds = torch.where(teacher[..., 4] >= _SURE, teacher[..., 5], -1.0)
            return self.loss(output, torch.cat([kinds[..., None], teacher[..., :4]], -1))
        taught = teacher[..., FIELDS:].sigmoid()
        losses = _focal(output[..., FIELDS:], taught)
        weight = taught.amax(-1)
        apart = ((1 - giou(output[..., :4], teacher[..., :4])) * weight).sum(1)
        return (losses.flatten(1).sum(1) + self.box_weight * apart) / weight.sum(1).clamp(min=1)

    def confidence(self, output: Tensor, criterion: str = "confidence") -> Tensor:
        """Return the score of the surest detection: (B,)."""
        return self._detected(output)[..., 4].amax(1)

    def quality(self, output: Tensor, target: Tensor) -> Tensor:
        """Return F1 of the detections of a score of at least 0.3, at an overlap of 0.5: (B,)."""
        found = []
        for detected, truth in zip(_numpy(self._detected(output)), _numpy(target), strict=True):
            detected, truth = detected[detected[:, 4] >= _SURE], truth[truth[:, 0] >= 0]
            hits = sum(
                int(right.sum())
                for _, right, _ in (_of_class(detected, truth, kind, (0.5,)) for kind in range(self.outputs))
            )
            total = len(detected) + len(truth)
            found.append(2 * hits / total if total else 1.0)
        return torch.tensor(found, device=output.device)

    def in_shape(self, output: Tensor, shape: Sequence[int]) -> Tensor:
        """Return detections (B, D, 6) in a longer list, of a shape (D', 6), that ends in none."""
        missing = shape[0] - output.shape[1]
        if tuple(output.shape[2:]) != tuple(shape[1:]) or output.shape[2:] != (DETECTION,) or missing < 0:
            return super().in_shape(output, shape)
        return filled_up(output, missing)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return average precision as COCO has it, of boxes of any size.

        Classes without a box count for no mean.
        """
        detected, truth = _numpy(self._detected(outputs)), _numpy(targets)
        precisions, recalls = [], []
        for kind in range(self.outputs):
            parts = [_of_class(*pair, kind, THRESHOLDS) for pair in zip(detected, truth, strict=True)]
            positives = sum(count for _, _, count in parts)
            if not positives:
                continue
            right = np.concatenate([part[1] for part in parts], axis=1)
            precisions.append(
                average_precision(np.concatenate([part[0] for part in parts]), right, positives)
            )
            recalls.append(right[0].sum() / positives)
        if not precisions:
            return {"ap50": 0.0, "ap": 0.0, "recall": 0.0}
        by_class = np.stack(precisions)
        return {
            "ap50": float(by_class[:, 0].mean()),
            "ap": float(by_class.mean()),
            "recall": float(np.mean(recalls)),
        }

    def moved(self, target: Tensor, view: View) -> Tensor:
        """Move the boxes with their images: (B, M, 5); one that loses three quarters of its area is none."""
        height, width = view.size
        kind, boxes = target[..., :1], view.boxes(target[..., 1:])
        cut = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        seen = (kind >= 0) & (areas(cut) > 0.25 * areas(boxes))[..., None]
        return torch.where(seen, torch.cat([kind, cut], -1), torch.full_like(target, -1))

    def agrees(self, output: Tensor, other: Tensor) -> Tensor:
        """Compare the sure detections of both, in class, score and box: (B,) bool, True if none is alone."""
        pairs = zip(self._detected(output), self._detected(other), strict=True)
        return torch.tensor([_within(one, two) and _within(two, one) for one, two in pairs])

    def difference(self, output: Tensor, other: Tensor) -> Tensor:
        """Return the largest difference of scores, the surest beside the surest: (B,).

        Boxes are compared by `agrees`: two of nearly equal scores may change places.
        """
        return (self._detected(output)[..., 4] - self._detected(other)[..., 4]).abs().amax(1)

    def post(self, output: Tensor) -> Tensor:
        """Return the detections: (B, D, 6)."""
        return self._detected(output)

    def summary(self, targets: Tensor) -> str:
        """Say how many boxes there are of each class."""
        counts = torch.bincount(targets[..., 0][targets[..., 0] >= 0].long(), minlength=len(self.names))
        told = (f"{name} {count:,}" for name, count in zip(self.names, counts.tolist(), strict=True))
        return f"boxes of {len(self.names)} classes in training ({', '.join(told)})"

    def missing(self, targets: Tensor) -> tuple[str, ...]:
        """Return the classes without a box."""
        there = set(targets[..., 0].long().unique().tolist())
        return tuple(name for number, name in enumerate(self.names) if number not in there)

    def describe(self, output: Tensor) -> str:
        """Say how many there are of each class, of those of a score of at least 0.3."""
        detected = self._detected(output[None])[0]
        return self._counted(detected[detected[:, 4] >= _SURE][:, 5])

    def describe_target(self, target: Tensor) -> str:
        """Say how many there are of each class."""
        return self._counted(target[:, 0][target[:, 0] >= 0])

    def facts(self) -> Mapping[str, Any]:
        """Return what names the task: see `Task.facts`."""
        return {
            "task": self.name,
            "names": list(self.names),
            "box_weight": self.box_weight,
            "detections": vars(self.detections),
        }

    def _counted(self, kinds: Tensor) -> str:
        counts = torch.bincount(kinds.long(), minlength=len(self.names)).tolist()
        told = [f"{count} {name}" for name, count in zip(self.names, counts, strict=True) if count]
        return ", ".join(told) or "nothing"

    def _detected(self, output: Tensor) -> Tensor:
        return output if output.shape[-1] == DETECTION else self.detections(output)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _of_class(
    detected: np.ndarray, truth: np.ndarray, kind: int, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the scores of a class in one image, which of them are right, and how many there are to find."""
    mine = detected[(detected[:, 4] > 0) & (detected[:, 5] == kind)]
    mine = mine[np.argsort(-mine[:, 4], kind="mergesort")]
    wanted = truth[truth[:, 0] == kind][:, 1:]
    return mine[:, 4], matches(mine[:, :4], wanted, thresholds), len(wanted)


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross entropy to probabilities, times the square of how far off each is (...).

    It is the quality focal loss (Li 2020, arXiv:2006.04388, equation 3) with its exponent of 2.
    """
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return losses * (wanted - logits.sigmoid()).square()


def _within(one: Tensor, other: Tensor) -> bool:
    """Return whether the sure detections of `one` are in `other` but for rounding: (D, 6) twice."""
    sure = one[one[:, 4] >= _SURE]
    if not len(sure):
        return True
    alike = iou(sure[:, :4], other[:, :4]) > 0.99
    alike &= sure[:, None, 5] == other[None, :, 5]
    alike &= (sure[:, None, 4] - other[None, :, 4]).abs() < 1e-2
    return bool(alike.any(1).all())
