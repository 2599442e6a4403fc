"""The shared weights of a whole design space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.data.dataset import resize
from dynnas.nn.config.network import RESOLUTION_SLOT, NetworkConfig, SlotConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.resize import Resize
from dynnas.nn.networks.glance import look_twice
from dynnas.nn.networks.network import Call, Network, build, run, shared_names, slot_module
from dynnas.nn.networks.resolution import mixed
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space
from dynnas.supernet.elastic import Elastic


class Supernet(nn.Module):
    """One set of weights for every architecture of `space`.

    Args:
        space: a space with a network (not a plain `choices` space).
        channels: channels of the images.
        classes: number of classes.
        experts: "shared" or "separate" expert banks of the op types, see `shared_names`.
        seed: draws the initial weights.
    """

    def __init__(
        self, space: Space, channels: int, classes: int, *, experts: str = "shared", seed: int = 0
    ) -> None:
        super().__init__()
        self.space, self.channels, self.classes = space, channels, classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            configs = space.covering_configs(channels, classes)
            self.slots = nn.ModuleDict(
                {
                    slot_module(slot): Elastic(build, configs[slot], shared_name=shared_names(experts))
                    for slot in configs
                }
            )

    def config(self, architecture: Architecture) -> NetworkConfig:
        """The concrete network that `architecture` means on this supernet's images and classes."""
        return self.space.network_config(architecture, self.channels, self.classes)

    def forward(
        self, x: Tensor, architecture: Architecture, open_gates: bool = False, context: Context = PLAIN
    ) -> tuple[Tensor, ...]:
        """Logits of every exit in order, then of the final head, each [B, classes].

        Args:
            x: images [B, channels, H, W], resized to the architecture's resolution if they are of another.
            architecture: a member of the space. Batch norm uses the statistics of this batch.
            open_gates: every image runs all of every block, at the largest resolution.
            context: is supplied to all layers.
        """
        config = self.config(architecture)
        config = config.without_gates() if open_gates else config

        def call(slot: str, slot_config: SlotConfig, value: Tensor) -> Tensor:
            return self.slots[slot_module(slot)](slot_config, value, context=context)

        x = resize(x, config.resolution)
        if config.choice is not None:
            return (_run_chosen(config, call, x),)
        if config.glance is not None:
            small = Resize(config.resolution, config.glance.size).to(x.device)(x)
            return look_twice(config, call, x, small, exact=not self.training)
        return run(config, call, x)

    def extract(self, architecture: Architecture, open_gates: bool = False) -> Network:
        """A plain network with its own copies of the weights; calibrate its batch norms before using it.

        With `open_gates` it has no gates.
        """
        config = self.config(architecture)
        config = config.without_gates() if open_gates else config
        slots = {}
        for slot, slot_config in config.slots():
            elastic = self.slots[slot_module(slot)]
            assert isinstance(elastic, Elastic)
            slots[slot] = elastic.extract(slot_config)
        return Network(config, slots).to(next(self.parameters()).device).train(self.training)

    def digest(self) -> str:
        """Sixteen hexadecimal digits of all weights."""
        return weights_digest(self)


def _run_chosen(config: NetworkConfig, call: Call, x: Tensor) -> Tensor:
    """Logits (B, classes) of images (B, C, R, R) at the resolutions that are chosen: it runs at each."""
    assert config.choice is not None
    rows = call(RESOLUTION_SLOT, config.choice, x)
    images = (Resize(config.resolution, size).to(x.device)(x) for size in config.choice.sizes)
    outputs = [
        run(config.at(size), call, image)[0] for size, image in zip(config.choice.sizes, images, strict=True)
    ]
    return mixed(outputs, rows)
