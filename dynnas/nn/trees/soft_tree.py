"""Soft decision trees as heads (Frosst and Hinton 2017, arXiv:1711.09784)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context, Contextual


@dataclass(frozen=True)
class Paths:
    """The ways of a batch through a soft decision tree.

    Attributes:
        reached: (B, nodes), the probability of reaching each inner node, the root first, level by level.
        right: (B, nodes), the probability of going right there.
    """

    reached: Tensor
    right: Tensor


class SoftDecisionTree(Contextual):
    """A binary tree whose nodes say how likely an input goes right, and whose leaves say what it is.

    A node i goes right with p_i = sigmoid(w_i x + b_i), a leaf has its own distribution over classes whatever
    the input, and the answer is the mean of the leaves' by the probabilities of the paths to them. It comes
    as logarithms, which are logits to any classification loss; the paper trains each leaf by its own loss.
    With `hard` the answer in evaluation is that of the leaf with the most likely path (section 2), which can
    be explained by `depth` decisions.

    Nodes and leaves lie level by level, so that a supernet shares the upper levels of trees of other depths.
    `tree_balance` keeps trainings from sending all inputs one way.

    Args:
        inputs: numbers of an input.
        outputs: number of classes.
        depth: levels of decisions, from 1 on; there are 2^depth leaves.
        hard: whether one leaf answers in evaluation.

    Raises:
        ValueError: the depth is below 1.
    """

    def __init__(self, inputs: int, outputs: int, depth: int = 3, hard: bool = False) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"SoftDecisionTree: depth is {depth}; allowed: 1 or more")
        self.depth, self.hard = depth, hard
        self.decide = nn.Linear(inputs, 2**depth - 1)
        self.leaves = nn.Parameter(torch.randn(2**depth, outputs))

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Map (B, inputs) to the logarithms of the classes' probabilities, (B, outputs)."""
        logits = self.decide(x)
        reached, paths = [], logits.new_zeros((x.shape[0], 1))
        for level in range(self.depth):
            start = 2**level - 1
            here = logits[:, start : 2 * start + 1]
            reached.append(paths)
            ways = torch.stack([F.logsigmoid(-here), F.logsigmoid(here)], dim=2)
            paths = (paths[:, :, None] + ways).flatten(1)
        trace = (context or self.context).trace
        if trace is not None:
            trace.record(Paths(torch.cat(reached, dim=1).exp(), logits.sigmoid()))
        said = self.leaves.log_softmax(dim=1)
        if self.hard and not self.training:
            return said[paths.argmax(dim=1)]
        return torch.logsumexp(paths[:, :, None] + said, dim=1)
