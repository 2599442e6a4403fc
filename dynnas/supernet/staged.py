"""The networks of space files as a `build`: made and shared slot by slot."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from torch import Tensor, nn

from dynnas.nn.config.network import RESOLUTION_SLOT, NetworkConfig, SlotConfig
from dynnas.nn.layers.resize import Resize, resize
from dynnas.nn.networks.glance import look_twice
from dynnas.nn.networks.network import Call, Network, build, run, shared_names
from dynnas.nn.networks.resolution import mixed
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet


class StagedBuild:
    """Makes the networks of a space file, for images of `channels` and a task of `classes` outputs.

    With `experts` "shared" the op types of a block use the same bank (static is its mean); with "separate"
    each has tensors of its own.
    """

    def __init__(self, space: Space, channels: int, classes: int, experts: str = "shared") -> None:
        self.space, self.channels, self.classes = space, channels, classes
        self._name = shared_names(experts)

    def config(self, architecture: Architecture, open_gates: bool = False) -> NetworkConfig:
        """Return the concrete network that `architecture` means; with `open_gates` it has no gates."""
        config = self.space.network_config(architecture, self.channels, self.classes)
        return config.without_gates() if open_gates else config

    def __call__(self, architecture: Architecture, /) -> Network:
        """Build the network of an architecture."""
        return Network(self.config(architecture))

    def covering(self) -> Mapping[str, Sequence[Hashable]]:
        """Return for each slot the largest configs that it can take."""
        return self.space.covering_configs(self.channels, self.classes)

    def part(self, config: SlotConfig, /) -> nn.Module:
        """Build a slot."""
        return build(config)

    def shared_name(self, config: SlotConfig, name: str, /) -> str:
        """Return the shared name.

        A block's tensors are shared by its kind, and where experts are separate also by its op.
        """
        return self._name(config, name)

    def run(
        self,
        call: Call,
        architecture: Architecture,
        /,
        x: Tensor,
        *,
        training: bool,
        open_gates: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return logits of every exit in order, then of the final head, each (B, classes).

        Args:
            call: runs a slot.
            architecture: a member of the space.
            x: images (B, channels, H, W), resized to the architecture's resolution if they are of another.
            training: whether gradients are to reach where a closer look is taken.
            open_gates: every image runs all of every block, at the largest resolution.
        """
        config = self.config(architecture, open_gates)
        x = resize(x, config.shape[1:])
        if config.choice is not None:
            return (_run_chosen(config, call, x),)
        if config.glance is not None:
            small = Resize(config.resolution, config.glance.size).to(x.device)(x)
            return look_twice(config, call, x, small, exact=not training)
        return run(config, call, x)

    def extract(
        self,
        extracted: Callable[[str, SlotConfig], nn.Module],
        architecture: Architecture,
        /,
        open_gates: bool = False,
    ) -> Network:
        """Make a network of slots; with `open_gates` it has no gates."""
        config = self.config(architecture, open_gates)
        return Network(config, {slot: extracted(slot, each) for slot, each in config.slots()})


def staged_supernet(
    space: Space, channels: int, classes: int, *, experts: str = "shared", seed: int = 0
) -> Supernet:
    """Make the supernet of a space file's networks; see `StagedBuild` and `Supernet`."""
    return Supernet(space, StagedBuild(space, channels, classes, experts), seed=seed)


def _run_chosen(config: NetworkConfig, call: Call, x: Tensor) -> Tensor:
    """Return logits (B, classes) of images (B, C, R, R), each at its chosen resolution.

    The network runs at every one.
    """
    assert config.choice is not None
    rows = call(RESOLUTION_SLOT, config.choice, x)
    images = (Resize(config.resolution, size).to(x.device)(x) for size in config.choice.sizes)
    outputs = [
        run(config.at(size), call, image)[0] for size, image in zip(config.choice.sizes, images, strict=True)
    ]
    return mixed(outputs, rows)
