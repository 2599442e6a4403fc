"""Tree routing: an image goes down a tree of channel groups, as far as it needs to."""

from __future__ import annotations

from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.grouped import GroupedGate

PARENTS = {"root": "", "a": "root", "b": "root", "aa": "a", "ab": "a", "ba": "b", "bb": "b"}
"""The nodes of the tree, and the node above each."""

PATTERN = ("root", "b", "a", "bb", "ba", "ab", "aa")
"""The node of each hidden channel, repeated, so that each node has a seventh of the channels.

Interleaved, so that a narrower block has the same nodes made narrower, and in this order, so that a path is
no larger than the next one however the channels divide.
"""


@register_gate("tree")
class Tree(GroupedGate):
    """Runs the channels of the nodes from the root down to one of a binary tree's seven, or all of them.

    As in HydraNet (Mullapudi et al. 2018) and adaptive neural trees (Tanno et al. 2019, arXiv:1807.06699),
    images share a trunk and part ways below it, by hard decisions; there nodes are layers one after the
    other, here they are channels of one block, whose sum is the block. An image may stop at an inner node:
    it runs one, two or three sevenths. The seven paths are chosen from at once, as leaves of one softmax.
    """

    name = "tree"
    capacity = 40
    paper = "Mullapudi et al. 2018; Tanno et al. 2019, arXiv:1807.06699"
    names = tuple(PARENTS)

    @staticmethod
    def groups_of(hidden: int) -> tuple[tuple[int, ...], ...]:
        """Return the channels of each path, and all of them."""
        return paths(hidden)


def paths(hidden: int) -> tuple[tuple[int, ...], ...]:
    """Return the channels of `hidden` on the path to each node, and all of them."""
    return (*(_on_the_way_to(node, hidden) for node in PARENTS), tuple(range(hidden)))


def _on_the_way_to(node: str, hidden: int) -> tuple[int, ...]:
    nodes = []
    while node:
        nodes.append(node)
        node = PARENTS[node]
    return tuple(place for place in range(hidden) if PATTERN[place % len(PATTERN)] in nodes)
