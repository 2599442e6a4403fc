"""The mean of the weights of several trainings (model soups: Wortsman et al. 2022, arXiv:2203.05482)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from dynnas.nn.networks.network import Network


@torch.no_grad()
def averaged(networks: Sequence[Network]) -> Network:
    """Return a network with the mean of the weights of networks of one architecture (a uniform soup).

    Numbers that are no weights, such as counts, are those of the first. Batch norms have to be calibrated:
    the statistics of the mean are not the mean of the statistics.

    Raises:
        ValueError: the networks have other tensors.
    """
    states = [network.state_dict() for network in networks]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if not states or any(other != shapes[0] for other in shapes):
        raise ValueError("averaged: the networks are none, or have other tensors")
    made = copy.deepcopy(networks[0])
    for name, value in made.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name].float() for state in states]).mean(0))
    return made
