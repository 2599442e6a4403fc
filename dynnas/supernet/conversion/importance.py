"""Importance of channels: the ones that matter least are left out first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def magnitudes(places: Sequence[tuple[str, int, np.ndarray]], tensors: Mapping[str, Tensor]) -> np.ndarray:
    """Return the importance of each of K channels: the mean over tensors of its share in their magnitude.

    Magnitude is the sum of absolute values, of weights as of scales of norms; biases do not count. Each
    tensor is divided by its mean, so that none outweighs the others (as Torch-Pruning's
    `GroupMagnitudeImportance` does with p=1; Fang et al. 2023, arXiv:2301.12900).

    Args:
        places: name of a tensor, axis, and for each index of the axis the channel 0..K-1, or -1 for none.
        tensors: by name.
    """
    count = max(int(channels.max()) for _, _, channels in places) + 1
    total = np.zeros(count)
    for name, axis, channels in places:
        tensor = tensors[name].detach()
        if not tensor.is_floating_point() or name.endswith("bias"):
            continue
        others = [at for at in range(tensor.dim()) if at != axis]
        size = tensor.abs().to(torch.float64)
        size = size.sum(others) if others else size
        own = channels >= 0
        held = np.bincount(channels[own], weights=size.cpu().numpy()[own], minlength=count)
        mean = held.mean()
        if mean > 0:
            total += held / mean
    return total
