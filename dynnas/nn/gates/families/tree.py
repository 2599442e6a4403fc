"""Tree routing: an image goes down a tree of channel groups, as far as it needs to."""

from __future__ import annotations

import torch
from torch import Tensor

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.gate import HIDDEN, OPEN_BIAS, Decision, Gated, hidden_channels
from dynnas.nn.layers.channel_groups import ChannelGroups

PARENTS = {"root": "", "a": "root", "b": "root", "aa": "a", "ab": "a", "ba": "b", "bb": "b"}
"""The nodes of the tree, and the node above each."""

PATTERN = ("root", "b", "a", "bb", "ba", "ab", "aa")
"""The node of each hidden channel, repeated, so that each node has a seventh of the channels.

Interleaved, so that a narrower block has the same nodes made narrower, and in this order, so that a path is
no larger than the next one however the channels divide.
"""


@register_gate("tree")
class Tree(Gated):
    """Runs the channels of the nodes from the root down to one of a binary tree's seven, or all of them.

    As in HydraNet (Mullapudi et al. 2018) and adaptive neural trees (Tanno et al. 2019, arXiv:1807.06699),
    images share a trunk and part ways below it, by hard decisions; there nodes are layers one after the
    other, here they are channels of one block, whose sum is the block. An image may stop at an inner node:
    it runs one, two or three sevenths. The seven paths are chosen from at once, as leaves of one softmax.
    """

    name = "tree"
    capacity = 40
    paper = "Mullapudi et al. 2018; Tanno et al. 2019, arXiv:1807.06699"
    requires = (*Gated.requires, HIDDEN)
    shares_norms = True
    branches = True

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the block has no hidden channels.
        """
        super().__init__(config, start=(*(0.0 for _ in PARENTS), OPEN_BIAS))
        self.groups = ChannelGroups(paths(hidden_channels(config)))

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives, by the node at which a path ends."""
        return (*PARENTS, "all")

    def choices(self) -> Tensor:
        """Return one decision for each path, and for all."""
        return torch.eye(len(PARENTS) + 1, dtype=torch.bool)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Compute all channels, and set those off the path to zero."""
        return self.groups.masked(self.block, x, decision.weights, counted)

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Run a block of one path's channels."""
        return self.groups.branch(self.block, x, alternative)


def paths(hidden: int) -> tuple[tuple[int, ...], ...]:
    """Return the channels of `hidden` on the path to each node, and all of them."""
    return (*(_on_the_way_to(node, hidden) for node in PARENTS), tuple(range(hidden)))


def _on_the_way_to(node: str, hidden: int) -> tuple[int, ...]:
    nodes = []
    while node:
        nodes.append(node)
        node = PARENTS[node]
    return tuple(place for place in range(hidden) if PATTERN[place % len(PATTERN)] in nodes)
