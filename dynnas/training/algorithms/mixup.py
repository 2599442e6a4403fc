"""Mixed images: mixup and CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynnas.errors import TrainingError
from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@dataclass(frozen=True)
class MixedTargets:
    """Targets of images that are mixed: `share` of the first ones, the rest of the second."""

    first: Any
    second: Any
    share: float


@register_algorithm("mixup")
@dataclass(eq=False)
class Mixup(Algorithm):
    """Pairs of images and of their targets are mixed by one share, drawn for each batch.

    Mixup adds images up (Zhang et al. 2018, arXiv:1710.09412), CutMix puts a rectangle of one into the other
    (Yun et al. 2019, arXiv:1905.04899). A mixed target is learned by the mixed loss, which for cross entropy
    is the same as a mixed label.

    It changes what targets are, so that what else reads them (learned exits, gate guidance) cannot be used
    beside it.
    """

    name = "mixup"

    alpha: float = setting(0.2, "of the Beta distribution that shares are drawn from in mixup", minimum=0.0)
    cutmix_alpha: float = setting(1.0, "the same of cutmix", minimum=0.0)
    cutmix_share: float = setting(0.5, "how many of the batches are cut", minimum=0.0, maximum=1.0)

    def on_start(self, run: Run) -> None:
        """Prepare the loss for mixed targets.

        Raises:
            TrainingError: several processes train together, each on a part of a batch.
        """
        loss = run.target_loss

        def mixed(output: Tensor, targets: Any) -> Tensor:
            if not isinstance(targets, MixedTargets):
                return loss(output, targets)
            share = targets.share
            return share * loss(output, targets.first) + (1 - share) * loss(output, targets.second)

        run.target_loss = mixed
        if run.batch.ranks.count > 1:
            raise TrainingError("train.algorithms.mixup: mixes whole batches; set train.processes to 1")

    def on_batch(self, run: Run, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Mix each image with another of the batch."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed * 1_000_003 + run.batch_number)
            cut = bool(torch.rand(()) < self.cutmix_share)
            alpha = self.cutmix_alpha if cut else self.alpha
            if not alpha:
                return inputs, targets
            share = float(torch.distributions.Beta(alpha, alpha).sample())
            order = torch.randperm(len(targets)).to(targets.device)
            box = _box(inputs.shape[2], inputs.shape[3], share) if cut else None
        others = inputs[order]
        if box is None:
            mixed = share * inputs + (1 - share) * others
        else:
            top, left, height, width = box
            mixed = inputs.clone()
            place = (..., slice(top, top + height), slice(left, left + width))
            mixed[place] = others[place]
            share = 1 - height * width / (inputs.shape[2] * inputs.shape[3])
        return mixed, MixedTargets(targets, targets[order], share)


def _box(height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a box with 1 - share of the area around a random middle."""
    ratio = (1 - share) ** 0.5
    half_height, half_width = int(height * ratio) // 2, int(width * ratio) // 2
    row = int(torch.randint(height, ()))
    column = int(torch.randint(width, ()))
    top, bottom = max(0, row - half_height), min(height, row + half_height)
    left, right = max(0, column - half_width), min(width, column + half_width)
    return top, left, bottom - top, right - left
