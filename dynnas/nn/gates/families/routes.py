"""Routes: an image takes one of several branches of a block, each with weights of its own."""

from __future__ import annotations

from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.grouped import GroupedGate

PATTERN = (2, 1, 0, 2, 1, 2, 2)
"""The branch of each hidden channel, repeated: branches have one, two and four sevenths of the channels.

Interleaved, so that a narrower block has the same branches made narrower, and in this order, so that a branch
is no larger than the next one however many channels there are.
"""

BRANCHES = ("1/7", "2/7", "4/7")


@register_gate("routes")
class Routes(GroupedGate):
    """Runs one of three branches of different sizes, or all of them together, as the gate says.

    Routing with hard decisions as in dynamic routing networks (Cai et al. 2021, arXiv:1905.04849): there the
    branches of a cell are blocks of different kinds. Here they are inverted residuals or bottlenecks of
    different widths, whose sum is the block. Two widths of `width` have the smaller one's channels in common;
    two branches have none, so that each can become good at the images that take it. Of fewer than three
    hidden channels some belong to several branches.
    """

    name = "routes"
    capacity = 50
    paper = "Cai et al. 2021, arXiv:1905.04849"
    names = BRANCHES

    @staticmethod
    def groups_of(hidden: int) -> tuple[tuple[int, ...], ...]:
        """Return the channels of each branch, and all of them."""
        return branches(hidden)


def branches(hidden: int) -> tuple[tuple[int, ...], ...]:
    """Return the channels of each branch of `hidden`, and all of them.

    An empty branch takes those of the next.
    """
    found: list[tuple[int, ...]] = [tuple(range(hidden))]
    for branch in reversed(range(len(BRANCHES))):
        own = tuple(place for place in range(hidden) if PATTERN[place % len(PATTERN)] == branch)
        found.append(own or found[-1])
    return tuple(reversed(found))
