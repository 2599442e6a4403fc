"""A concrete network: plain torch, no elasticity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from dynnas.ops.exits import select_confident
from dynnas.ops.layers import Head, Stem
from dynnas.ops.registry import BLOCKS, GATES
from dynnas.space.network import BlockConfig, NetworkConfig, SlotConfig, StemConfig

Call = Callable[[str, SlotConfig, Tensor], Tensor]


def build(config: SlotConfig) -> nn.Module:
    """The module of one slot: a stem, a block, or a classifier (head or exit).

    Raises:
        SpaceError: the config names a block, op, attention or activation that is not registered,
        or a gate where it makes no sense.
    """
    if isinstance(config, StemConfig):
        return Stem(config)
    if isinstance(config, BlockConfig):
        return GATES[config.gate](config) if config.gated else BLOCKS[config.block](config)
    return Head(config)


@dataclass(frozen=True)
class Stretch:
    """The slots from one classifier to the next: run `body` in order, then `classifier` on the result."""

    body: tuple[tuple[str, SlotConfig], ...]
    classifier: tuple[str, SlotConfig]
    threshold: float | None


def stretches(config: NetworkConfig) -> Iterator[Stretch]:
    """The order in which a network runs: a stretch for every exit, then the one that ends in the head."""
    body: list[tuple[str, SlotConfig]] = []
    trunk: tuple[tuple[str, SlotConfig], ...] = (("stem", config.stem), *config.blocks)
    for slot, slot_config in trunk:
        body.append((slot, slot_config))
        for place in config.exits:
            if place.after == slot:
                yield Stretch(tuple(body), (place.slot, place.config), place.threshold)
                body.clear()
    yield Stretch(tuple(body), ("head", config.head), None)


def run(config: NetworkConfig, call: Call, x: Tensor) -> tuple[Tensor, ...]:
    """Run a network on images (B, channels, R, R), with `call(slot, config, x)` running each slot.

    Returns:
        Logits (B, classes) of every exit in order, then of the head.
    """
    logits = []
    for stretch in stretches(config):
        for slot, slot_config in stretch.body:
            x = call(slot, slot_config, x)
        logits.append(call(*stretch.classifier, x))
    return tuple(logits)


def slot_module(slot: str) -> str:
    """The key of a slot in a `ModuleDict`, whose keys may hold no dots."""
    return slot.replace(".", "__")


@dataclass(frozen=True)
class Segment:
    """A part of a network and the classifier at its end, where images of confidence >= `threshold` leave.

    The modules are the network's own. The last segment has no threshold.
    """

    body: nn.Sequential
    classifier: nn.Module
    threshold: float | None


class Network(nn.Module):
    """The network of a config; its slots' modules are in `slots`, keyed by `slot_module`."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build every slot.

        Raises:
            SpaceError: the config names something that is not registered.
        """
        super().__init__()
        self.config = config
        self.slots = nn.ModuleDict({slot_module(slot): build(c) for slot, c in config.slots()})

    def logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (B, channels, R, R) to logits (B, classes) of every exit in order, then of the head."""
        return run(self.config, lambda slot, _, x: self._module(slot)(x), x)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, R, R) to the logits (B, classes) with which each image leaves.

        Everything is computed for all images, and for each the first exit that is confident enough (in its
        largest softmax) is kept; `segments` are for running no further than an image needs.
        """
        return select_confident(self.logits(x), [place.threshold for place in self.config.exits])[0]

    def segments(self) -> list[Segment]:
        """The network cut after each exit: what real branching runs one by one."""
        return [
            Segment(
                nn.Sequential(*(self._module(slot) for slot, _ in stretch.body)),
                self._module(stretch.classifier[0]),
                stretch.threshold,
            )
            for stretch in stretches(self.config)
        ]

    def _module(self, slot: str) -> nn.Module:
        return self.slots[slot_module(slot)]
