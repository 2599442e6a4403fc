"""Small finished networks that see an image at a glance first."""

from dataclasses import replace

import torch

from dynnas.nn.config.network import ExitConfig, ExitPlace, GlanceConfig
from support import networks

SIZE = 6


def glance_config(threshold=0.5, **kinds):
    """The config of `networks.config` for parts of 6 of 12 pixels."""
    config = networks.config(**kinds)
    slot, last = config.blocks[-1]
    read = last.read_channels
    place = ExitPlace("glance", slot, ExitConfig(read, 10, "relu", networks.CLASSES), threshold)
    return replace(
        config,
        exits=(place,),
        head=replace(config.head, in_channels=2 * read),
        glance=GlanceConfig(networks.CHANNELS, networks.RESOLUTION, SIZE),
    )


@torch.no_grad()
def glancing(config, seed=0):
    """A finished network that looks at different places of different images; half of them leave before."""
    torch.manual_seed(seed)
    network = networks.finished(config, seed)
    network.slots["focus"].score.weight.normal_(std=6.0)
    return network
