"""The balance of soft decision trees: both ways of a node are to be used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.trees.soft_tree import Paths
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("tree_balance")
@dataclass(eq=False)
class TreeBalance(Algorithm):
    """A node that sends all of a batch one way pays for it (Frosst and Hinton 2017, arXiv:1711.09784).

    With the share a_i of what reaches node i that goes right (equation 4), the price is the sum of
    -weight * 2^-level * (log a_i + log(1 - a_i)) / 2 (equation 5). It does nothing where there is no tree.
    """

    name = "tree_balance"
    records = (Paths,)

    weight: float = setting(0.1, "of the price at the root; each level has half of that above", minimum=0.0)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the price of all trees."""
        found = [balance(paths) for paths in forward.trace.of(Paths)]
        return self.weight * torch.stack(found).sum() if found and self.weight else None


def balance(paths: Paths) -> Tensor:
    """Return the cross entropy of each node's shares to halves, the levels weighted by 2^-level: ()."""
    share = (paths.reached * paths.right).sum(0) / paths.reached.sum(0).clamp(min=1e-9)
    share = share.clamp(1e-6, 1 - 1e-6)
    levels = torch.arange(1, len(share) + 1, device=share.device).log2().floor()
    return -((share.log() + (1 - share).log()) / 2 * 2.0**-levels).sum()
