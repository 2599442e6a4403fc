"""Multiply-adds and parameters, counted on the module itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from dynnas.ops import Network, settle
from dynnas.ops.macs import count_macs
from dynnas.runtime.images import blank_images
from dynnas.space.network import NetworkConfig


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image; routers, attentions and every classifier passed are included.

    Attributes:
        macs: multiply-adds of the longest way, through all exits to the head.
        params: numbers to store, batch norm's scale and shift included.
        exit_macs: multiply-adds when leaving at each exit, then at the head; the last is `macs`.
    """

    macs: int
    params: int
    exit_macs: tuple[int, ...]

    def expected_macs(self, exit_shares: Sequence[float]) -> float:
        """The mean over images of which `exit_shares` leave at each exit, then at the head."""
        return sum(share * macs for share, macs in zip(exit_shares, self.exit_macs, strict=True))


def cost(config: NetworkConfig) -> Cost:
    """Count the network of `config` without making its weights.

    Multiply-adds are those of convolutions and matrix products at batch 1, mixing of kernels included, and
    what an op counts itself (sampling of a deformable convolution, the lines of a dynamic ReLU); additions,
    plain activations, pooling and batch norm (which folds away) are not counted, as is usual.
    """
    with torch.device("meta"):
        network = Network(config).eval()
        settle(network)
        x = blank_images(config)
    macs = []
    for segment in network.segments():
        x, body_macs = count_macs(segment.body, x)
        _, classifier_macs = count_macs(segment.classifier, x)
        macs.append(body_macs + classifier_macs)
    exit_macs = tuple(accumulate(macs))
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(exit_macs[-1], params, exit_macs)
