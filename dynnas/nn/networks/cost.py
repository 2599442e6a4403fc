"""The multiply-adds and parameters of a network, counted on its modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from dynnas.nn.config.network import BlockConfig, NetworkConfig, ResolutionConfig
from dynnas.nn.gates.costs import GateCost, gate_costs
from dynnas.nn.networks.layer_features import Piece, pieces_of, traits


@dataclass(frozen=True)
class Cost:
    """The cost of a network for one image; routers, attentions and every classifier passed are included.

    Attributes:
        macs: multiply-adds of the longest way, through all exits to the head.
        params: numbers to store, batch norm's scale and shift included.
        exit_macs: multiply-adds when leaving at each exit, then at the head, with all gates open; the last is
            `macs`.
        gates: of the gated blocks, in order, or of the choice of the resolution. stretches: in which part of
            the network each of them stands, 0 before the first exit.
    """

    macs: int
    params: int
    exit_macs: tuple[int, ...]
    gates: tuple[GateCost, ...] = ()
    stretches: tuple[int, ...] = ()

    def expected_macs(self, exit_shares: Sequence[float]) -> float:
        """Return the mean over images, if `exit_shares` of them leave at each exit, then at the head."""
        return sum(share * macs for share, macs in zip(exit_shares, self.exit_macs, strict=True))

    def image_macs(self, exits: Tensor, usage: Sequence[Tensor]) -> Tensor:
        """Return the multiply-adds of each image: (N,) float64.

        Args:
            exits: (N,) index of the exit by which each image leaves, the number of exits for the head.
            usage: of every gate, as `Decision.usage`, (N, alternatives).
        """
        found = torch.tensor(self.exit_macs, dtype=torch.float64, device=exits.device)[exits]
        return found - self.saved_macs(usage).gather(0, exits[None])[0] if self.gates else found

    def saved_macs(self, usage: Sequence[Tensor]) -> Tensor:
        """Return the multiply-adds that gates save each image up to each exit: (exits + 1, N) float64.

        Args:
            usage: of every gate, there is at least one, as `Decision.usage`, (N, alternatives).
        """
        saved = usage[0].new_zeros((len(self.exit_macs), len(usage[0])), dtype=torch.float64)
        for gate, stretch, used in zip(self.gates, self.stretches, usage, strict=True):
            macs = torch.tensor(gate.macs, dtype=torch.float64, device=used.device)
            saved[stretch:] += macs.max() - used.double() @ macs
        return saved


def cost(config: NetworkConfig) -> Cost:
    """Count the network of `config` without making its weights.

    Multiply-adds are those of convolutions and matrix products at batch 1, mixing of kernels included, and
    what an op counts itself (sampling of a deformable convolution, the lines of a dynamic ReLU); additions,
    plain activations, pooling and batch norm (which folds away) are not counted, as is usual.
    """
    stretches = [[traits(piece) for piece in stretch] for stretch in pieces_of(config)]
    exit_macs = tuple(accumulate(sum(piece.macs for piece in stretch) for stretch in stretches))
    params = sum(piece.weights for stretch in stretches for piece in stretch)
    passed = [
        index for index, stretch in enumerate(pieces_of(config)) for piece in stretch if _is_gated(piece)
    ]
    return Cost(exit_macs[-1], params, exit_macs, gate_costs(config), tuple(passed))


def _is_gated(piece: Piece) -> bool:
    config = piece.config
    return isinstance(config, ResolutionConfig) or (isinstance(config, BlockConfig) and config.gated)
