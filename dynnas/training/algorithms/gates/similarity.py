"""ManiDP: images that look alike use like channels (Tang et al. 2021, arXiv:2103.05861, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.gates.families.channels import KeptChannels
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.distributed.ranks import Batch


@register_algorithm("gate_similarity")
@dataclass(eq=False)
class GateSimilarity(Algorithm):
    """Images that look alike are to use like channels."""

    name = "gate_similarity"
    records = (KeptChannels,)

    weight: float = setting(
        1.0, "weight of the loss by which images that look alike are to use like channels", minimum=0.0
    )

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the loss, where gates choose channels."""
        kept = [(each.weights, each.held) for each in forward.trace.of(KeptChannels)]
        return self.weight * similarity_loss(kept, run.batch) if kept and self.weight else None


def similarity_loss(kept: Sequence[tuple[Tensor, Tensor]], batch: Batch) -> Tensor:
    """Return the mean squared difference of two similarities over pairs of images, summed over blocks: ().

    One is the cosine of what their channels count, the other that of what these channels hold, in the mean
    over positions. In the authors' code channels count before all but some are set to 0.

    Args:
        kept: of blocks whose gate chooses channels, what each channel counts and holds, both (B, channels).
        batch: the whole of it.
    """
    gaps = [(_cosines(weights, batch) - _cosines(held, batch)).square().mean() for weights, held in kept]
    return torch.stack(gaps).sum()


def _cosines(values: Tensor, batch: Batch) -> Tensor:
    """Return the cosines of all pairs of images, (images, images), from this rank's rows (B, C)."""
    rows = F.normalize(batch.rows(values.float()))
    return rows @ rows.T
