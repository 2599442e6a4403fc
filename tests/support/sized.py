"""Small finished networks that run each image at a resolution of its own, of two minds about it."""

from dataclasses import replace

import torch

from dynnas.nn.config.network import ResolutionConfig
from support import networks

SIZES = (6, 8, 12)


def sized_config(target=0.5, **kinds):
    """The config of `networks.config`, at three resolutions."""
    config = networks.config(**kinds)
    return replace(config, choice=ResolutionConfig(networks.CHANNELS, SIZES, target))


@torch.no_grad()
def undecided(config, seed=0):
    """A finished network whose images differ in their resolution."""
    network = networks.finished(config, seed)
    features = network.chosen.gate.look[-1]
    features.expand.weight.mul_(5)
    logits = network.chosen.logits(networks.images(61, seed=99))
    features.expand.bias.sub_(logits.median(0).values)
    return network


@torch.no_grad()
def hold(network, size):
    """Let `network` take one size for all images."""
    features = network.chosen.gate.look[-1]
    features.expand.weight.zero_()
    features.logits_by_target.zero_()
    features.expand.bias.copy_(torch.eye(len(SIZES))[SIZES.index(size)])
