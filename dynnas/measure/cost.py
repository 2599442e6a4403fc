"""Multiply-adds and parameters, counted on the modules themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from dynnas.measure.features import traits
from dynnas.measure.pieces import pieces_of
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
    stretches = [[traits(piece) for piece in stretch] for stretch in pieces_of(config)]
    exit_macs = tuple(accumulate(sum(piece.macs for piece in stretch) for stretch in stretches))
    params = sum(piece.weights for stretch in stretches for piece in stretch)
    return Cost(exit_macs[-1], params, exit_macs)
