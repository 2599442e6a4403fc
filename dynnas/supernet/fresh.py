"""New weights for a network that has trained ones."""

from __future__ import annotations

import torch
from torch import nn

_DRAWS = ("reset_parameters", "_reset_parameters")
"""Names of the methods by which layers draw their weights; the second is that of torch's attention."""


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int) -> list[str]:
    """Draw all weights of a network from `seed`, in place, by the `reset_parameters` of its layers.

    A part draws after the parts in it, as in a constructor. Statistics of norms are reset with their layers.
    Parameters that no layer draws, such as tokens, positions and scales, are drawn from the normal
    distribution with the mean and the deviation of their values. What the constructor of the network's class
    did beyond that, such as He's initialisation, is not repeated.

    Returns:
        The names of the parameters that no layer draws.
    """
    drawn = {name: each for name, each in network.named_parameters() if each.is_floating_point()}
    moments = {name: (each.mean(), each.std(correction=0)) for name, each in drawn.items()}
    for each in drawn.values():
        each.fill_(float("nan"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in reversed(list(network.modules())):
            for name in _DRAWS:
                if callable(draw := getattr(part, name, None)):
                    draw()
                    break
        left = [name for name, each in drawn.items() if bool(each.isnan().any())]
        for name in left:
            mean, deviation = moments[name]
            drawn[name].copy_(torch.randn(drawn[name].shape).to(drawn[name]) * deviation + mean)
    return left
