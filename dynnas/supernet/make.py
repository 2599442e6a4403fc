"""The supernet of any space: of one's own class, or of a space file's networks."""

from __future__ import annotations

from dataclasses import replace

from dynnas.nn.networks.backbone_networks import BackboneNetworks
from dynnas.space.space import Space
from dynnas.supernet.staged import staged_supernet
from dynnas.supernet.supernet import Supernet


def make_supernet(
    space: Space, channels: int, outputs: int, *, experts: str = "shared", seed: int = 0
) -> Supernet:
    """Make the supernet over `space`.

    Args:
        space: of a space file, or of `Space.of`, whose class knows its own inputs and outputs.
        channels: of the images. outputs: of the task, such as the number of classes.
        experts: as `staged_supernet` takes it; a class of one's own shares by the slicing rules alone.
        seed: draws the initial weights.

    Raises:
        SpaceError: the space has no networks, or no rule says how a tensor of several shapes is shared.
    """
    if isinstance(space.model, BackboneNetworks):
        space = replace(space, model=replace(space.model, experts=experts))
    if space.model is not None:
        return Supernet(space, seed=seed)
    return staged_supernet(space, channels, outputs, experts=experts, seed=seed)
