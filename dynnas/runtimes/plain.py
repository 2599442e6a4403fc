"""Modules that are no staged networks, as runtimes see networks: one part, no exits, nothing left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dynnas.errors import TargetError
from dynnas.nn.branching import Branching
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.context import Context, Trace, supplied
from dynnas.nn.exits.early_exits import EarlyExits, ExitMode
from dynnas.nn.exits.exits import sureness
from dynnas.nn.gates.gate import Gated
from dynnas.nn.networks.network import Body, Network, Segment
from dynnas.nn.networks.sized import SizedNetwork
from dynnas.runtimes.cascade import Cascade, CascadeConfig, Finished

if TYPE_CHECKING:
    from dynnas.nn.config.network import BlockConfig
    from dynnas.nn.exits.exits import Leaving


@dataclass(frozen=True)
class OwnExit:
    """An early exit of a network of one's own class.

    Attributes:
        name: as `ways` names it. after: the module behind which it stands.
        criterion: what is compared with the threshold. threshold: from which on an image leaves.
    """

    name: str
    after: str
    criterion: str
    threshold: float


@dataclass(frozen=True)
class PlainConfig:
    """The input of a plain network: images (channels, resolution, width), square if there is no width.

    The rest is what is known of staged networks.

    Attributes:
        exits: none: what an exit says is not known where a module may go on from it.
        ways: names of the exits of the module's `EarlyExits`, and `head`; `head` alone where there is no such
            container, or more than one.
        leaves: facts of the exits that `ways` names; none where the container stands in a part that a gate
            may leave out.
        gated: the names of blocks with gates, and their configs.
    """

    channels: int
    resolution: int
    classes: int = 0
    exits: tuple[Leaving, ...] = ()
    ways: tuple[str, ...] = ("head",)
    leaves: tuple[OwnExit, ...] = ()
    gated: tuple[tuple[str, BlockConfig], ...] = ()
    branches: bool = False
    choice: None = None
    glance: None = None
    dynamic: bool = False
    width: int | None = None

    @staticmethod
    def of(module: nn.Module, shape: Sequence[int], outputs: int) -> PlainConfig:
        """Return the config for images of `shape` (channels, height, width)."""
        channels, height, width = shape
        layers = dict(module.named_modules())
        exits = {name: layer for name, layer in layers.items() if isinstance(layer, EarlyExits)}
        early = len(next(iter(exits.values())).thresholds) if len(exits) == 1 else 0
        gated = [(name, layer.config) for name, layer in layers.items() if isinstance(layer, Gated)]
        return PlainConfig(
            channels,
            height,
            outputs,
            ways=(*(next(iter(exits.values())).names if early else ()), "head"),
            leaves=_leaves(layers, *next(iter(exits.items()))) if early else (),
            gated=tuple(gated),
            branches=any(isinstance(layer, Branching) for layer in layers.values()),
            dynamic=any(getattr(layer, "input_dependent", False) for layer in layers.values()),
            width=None if width == height else width,
        )

    @property
    def says_exit(self) -> bool:
        """True if graphs say by which exit an image left."""
        return bool(self.leaves)

    @property
    def decides(self) -> bool:
        """True if a layer decides for each image what it runs."""
        return self.branches

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of an image."""
        return self.channels, self.resolution, self.width or self.resolution

    @property
    def sizes(self) -> str:
        """Return the resolution, in words."""
        return str(self.resolution) if self.width is None else f"{self.resolution} x {self.width}"


def _leaves(layers: Mapping[str, nn.Module], name: str, exits: EarlyExits) -> tuple[OwnExit, ...]:
    around = [name[:at] for at, sign in enumerate(name) if sign == "."]
    if any(isinstance(layers[each], Branching) for each in around):
        return ()
    criterion = "confidence" if exits.confidence is sureness else getattr(exits.confidence, "__name__", "own")
    prefix = f"{name}." if name else ""
    places = zip(exits.names, exits.exits, exits.thresholds, strict=False)
    return tuple(
        OwnExit(name, f"{prefix}stages.{stage}", criterion, float(threshold))
        for name, stage, threshold in places
    )


class PlainNetwork(SizedNetwork):
    """Any module from images (B, C, H, W) to outputs (B, ...), in place of a staged network.

    Args:
        module: in eval mode.
        shape: (C, H, W) of an image.
        outputs: numbers that it gives for an image, such as its classes; 0 where that is not known.
    """

    def __init__(self, module: nn.Module, shape: Sequence[int], outputs: int = 0) -> None:
        super().__init__()
        self.config: PlainConfig = PlainConfig.of(module, shape, outputs)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to outputs (B, ...)."""
        return _last(self.module(x))

    def logits(self, x: Tensor) -> tuple[Tensor]:
        """Return the outputs of the only exit; if the module gives several, the last."""
        return (self(x),)

    def segments(self) -> list[Segment]:
        """Return the whole network as its only segment."""
        return [Segment(Body(_Whole(self.module)), nn.Identity(), None)]


def exits_of(network: Network | Cascade | PlainNetwork) -> Sequence[Any]:
    """Return the early exits of a network in their order, each with its name, place and threshold."""
    return network.config.leaves if isinstance(network, PlainNetwork) else network.config.exits


def outputs_by_exit(network: PlainNetwork, x: Tensor, trace: Trace | None = None) -> Iterator[Tensor]:
    """Yield for each exit, and at last the head, the outputs (B, ...) if all images leave there.

    What the forward pass does behind the exits is done to each. All of every gated block is computed.

    Args:
        network: in eval mode. x: images (B, C, H, W). trace: is told of each run.
    """
    for number in range(len(network.config.leaves) + 1):
        with supplied(network, Context(ExitMode(number if network.config.leaves else None), trace=trace)):
            output = network(x)
        yield output


class _Whole(nn.Module):
    """A module as one slot."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return _last(self.module(x))


def _last(output: Any) -> Tensor:
    return output[-1] if isinstance(output, tuple | list) else output


Compilable = Finished | PlainNetwork
"""The networks that runtimes compile."""


def as_compilable(network: nn.Module, shape: Sequence[int] | None = None) -> Compilable:
    """Return `network` as runtimes see it: itself if it is a staged network or a cascade, else a plain one.

    Args:
        network: any module in eval mode.
        shape: (channels, height, width) of an image; a staged network says it itself.

    Raises:
        TargetError: the shape is not known.
    """
    if isinstance(network, Network | Cascade | PlainNetwork):
        return network
    if shape is None:
        raise TargetError(
            f"target: what images a {type(network).__name__} takes is not known; give its shape, such as "
            "shape=(3, 32, 32)"
        )
    if len(shape) != 3:
        raise TargetError(f"target: images of the shape {tuple(shape)}; allowed is (channels, height, width)")
    return PlainNetwork(network, shape)


def blank_images(config: NetworkConfig | CascadeConfig | PlainConfig, batch: int = 1) -> Tensor:
    """Return zeros (batch, channels, height, width) of the shape that the network of `config` takes."""
    return torch.zeros(batch, *config.shape)
