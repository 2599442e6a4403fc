"""A concrete network: plain torch, no elasticity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from dynnas.nn.config.network import (
    RESOLUTION_SLOT,
    BlockConfig,
    FocusConfig,
    GlanceConfig,
    NetworkConfig,
    PolicyConfig,
    RecurrentConfig,
    ResolutionConfig,
    SlotConfig,
    StemConfig,
)
from dynnas.nn.exits.exits import Leaving, leave
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.gate import is_of_gate, shared_name
from dynnas.nn.gates.policy import Policy, embedding
from dynnas.nn.gates.recurrent import STATE, Recurrent
from dynnas.nn.gates.state import Carried, Flow, Pack, Unpack, alive, carried_by, pass_through
from dynnas.nn.layers.layers import Head, Stem
from dynnas.nn.layers.maps import pack
from dynnas.nn.layers.resize import Resize
from dynnas.nn.networks.glance import (
    Focus,
    FocusStep,
    GlanceClassifier,
    GlanceStep,
    first_pixel,
    glance_at,
    look_twice,
)
from dynnas.nn.networks.multiscale import MultiScale
from dynnas.nn.networks.resolution import ChosenResolution, ResolutionGate, sharing, store_once
from dynnas.nn.registry import BLOCKS

Call = Callable[[str, SlotConfig, Any], Any]
"""A function that runs a slot: on a tensor, on the tuple of maps that multi-scale layers pass on, or on a
`Flow`.
"""


def build(config: SlotConfig) -> nn.Module:
    """Build the module of one slot: a side value, stem, block or classifier, or a predictor of where to look.

    Raises:
        SpaceError: the config names a block, op, attention or activation that is not registered,
        or a gate where it makes no sense.
    """
    if isinstance(config, StemConfig):
        return Stem(config)
    if isinstance(config, PolicyConfig):
        return Policy(config)
    if isinstance(config, RecurrentConfig):
        return Recurrent(config)
    if isinstance(config, BlockConfig):
        if config.scales:
            return MultiScale(config)
        return GATES[config.gate.name](config) if config.gated else BLOCKS[config.block.name](config)
    if isinstance(config, ResolutionConfig):
        return ResolutionGate(config)
    if isinstance(config, GlanceConfig):
        return Resize(config.given, config.size)
    if isinstance(config, FocusConfig):
        return Focus(config)
    return Head(config)


def shared_names(experts: str) -> Callable[[SlotConfig, str], str]:
    """Return the names under which a supernet shares the tensors of slots.

    With `experts` "shared" the op types of a block use the same bank; with "separate" each has its own.
    """
    return partial(_shared_name, experts == "separate")


def _shared_name(separate: bool, config: SlotConfig, name: str) -> str:
    if not isinstance(config, BlockConfig):
        return name
    name = shared_name(name) if config.gated else name
    return (
        f"{config.block}.{config.op}.{name}"
        if separate and not is_of_gate(name)
        else f"{config.block}.{name}"
    )


def carries(config: SlotConfig) -> tuple[Carried, ...]:
    """Return the side values of a slot's module; see `dynnas.nn.gates.state`."""
    if isinstance(config, PolicyConfig):
        return (embedding(config.width),)
    if isinstance(config, BlockConfig) and config.gated:
        return GATES[config.gate.name].carries(config)
    return (STATE,) if isinstance(config, RecurrentConfig) else ()


@dataclass(frozen=True)
class Stretch:
    """The slots from one classifier to the next: run `body` in order, then `classifier` on the result."""

    body: tuple[tuple[str, SlotConfig], ...]
    classifier: tuple[str, SlotConfig]
    exit: Leaving | None


def stretches(config: NetworkConfig) -> Iterator[Stretch]:
    """Yield the stretches in which a network runs: one for every exit, then the one that ends in the head."""
    body: list[tuple[str, SlotConfig]] = []
    for slot, slot_config in (*config.looking, *config.focusing):
        body.append((slot, slot_config))
        for place in config.exits:
            if place.after == slot:
                yield Stretch(tuple(body), (place.slot, place.config), place)
                body.clear()
    yield Stretch(tuple(body), (config.head_slot, config.head), None)


def run(config: NetworkConfig, call: Call, x: Tensor) -> tuple[Tensor, ...]:
    """Run a network on images (B, channels, R, R), with `call(slot, config, x)` running each slot.

    Returns:
        Logits (B, classes) of every exit in order, then of the head; what an exit of the criterion
        `learned` says has one column more (see `dynnas.nn.exits.exits`).
    """
    logits = []
    flow = Flow(x)
    for stretch in stretches(config):
        for slot, slot_config in stretch.body:
            if isinstance(slot_config, BlockConfig) and slot_config.scales and isinstance(flow.x, Tensor):
                flow = flow._replace(x=(flow.x,))
            flow = pass_through(partial(call, slot, slot_config), carries(slot_config), flow)
        logits.append(call(*stretch.classifier, flow.x if isinstance(flow.x, Tensor) else flow.x[-1]))
    return tuple(logits)


def slot_module(slot: str) -> str:
    """Return the key of a slot in a `ModuleDict`, whose keys may hold no dots."""
    return slot.replace(".", "__")


class Body(nn.Sequential):
    """Slots in order, which map a tensor to a tensor.

    Maps of several scales are packed at both ends alone, and so are the values beside the map that others
    hand on to these slots (`takes`), or these to others (`gives`).
    """

    def __init__(
        self, *modules: nn.Module, takes: Sequence[Carried] = (), gives: Sequence[Carried] = ()
    ) -> None:
        first = (Unpack(takes),) if takes else ()
        last = (Pack(gives),) if gives else ()
        super().__init__(*first, *modules, *last)

    def forward(self, x: Tensor) -> Tensor:
        """Map the input (B, C, H, W) of the first slot to the output of the last one."""
        return self.packed(Flow(x))

    def packed(self, flow: Flow) -> Tensor:
        """Map a flow to the packed output (B, C, H, W): `forward` with the side values that are at hand."""
        maps = self.flow(flow).x
        return maps if isinstance(maps, Tensor) else pack(maps)

    def flow(self, flow: Flow) -> Flow:
        """Return the output without packing several scales at the end."""
        for module in self:
            if isinstance(module, MultiScale) and isinstance(flow.x, Tensor):
                flow = flow._replace(x=(flow.x,) if module.scales.makes else module.spread(flow.x))
            flow = pass_through(module, carried_by(module), flow)
        return flow


class Coarsest(nn.Module):
    """A classifier that reads the last of the packed tensors: the map, and of several scales the coarsest."""

    def __init__(self, classifier: nn.Module, channels: int) -> None:
        super().__init__()
        self.classifier, self.channels = classifier, channels

    def forward(self, x: Tensor) -> Tensor:
        """Map a packed tensor (B, C, H, W) to logits (B, classes)."""
        return self.classifier(x[:, -self.channels :])


@dataclass(frozen=True)
class Segment:
    """A part of a network and the classifier at its end; images leave there if `exit` is sure enough.

    The modules are the network's own. The last segment has no exit.
    """

    body: Body
    classifier: nn.Module
    exit: Leaving | None

    @property
    def threshold(self) -> float | None:
        """Return the confidence from which images leave, from 0 to 1; None for the last segment."""
        return self.exit.threshold if self.exit else None


class Sized(nn.Module):
    """A network without exits at one resolution."""

    def __init__(self, config: NetworkConfig, slots: Mapping[str, nn.Module]) -> None:
        """`slots` are its modules."""
        super().__init__()
        self.config = config
        self.slots = nn.ModuleDict({slot_module(slot): slots[slot] for slot, _ in config.slots()})

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, R, R) to logits (B, classes)."""
        return run(self.config, lambda slot, _, x: self.slots[slot_module(slot)](x), x)[0]


class Network(nn.Module):
    """The network of a config; its slots' modules are in `slots`, keyed by `slot_module`.

    Where the resolution is chosen for each image, `chosen` runs it: at the largest with the modules of
    `slots`, at others with copies that differ in nothing but the statistics of their batch norms.
    """

    def __init__(self, config: NetworkConfig, slots: Mapping[str, nn.Module] | None = None) -> None:
        """Build every slot that `slots` does not bring along.

        Raises:
            SpaceError: the config names something that is not registered.
        """
        super().__init__()
        self.config = config
        slots = slots or {slot: build(slot_config) for slot, slot_config in config.slots()}
        self.slots = nn.ModuleDict({slot_module(slot): module for slot, module in slots.items()})
        self.chosen: ChosenResolution | None = None
        if config.choice is not None:
            gate = slots[RESOLUTION_SLOT]
            assert isinstance(gate, ResolutionGate)
            members = [
                Sized(config.at(size), {slot: sharing(module) for slot, module in slots.items()})
                for size in config.choice.sizes[:-1]
            ]
            self.chosen = ChosenResolution(
                config.choice, gate, [*members, Sized(config.at(config.resolution), slots)]
            )
            store_once(self)
        self.glance = build(config.glance) if config.glance else None

    def logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, channels, R, R) to logits (B, classes) of every exit in order, then of the head.

        What an exit of the criterion `learned` says has one column more: `answers` leaves it out.
        """
        if self.chosen is not None:
            return (self.chosen(x),)
        if self.glance is not None:
            return look_twice(self.config, self._call, x, self.glance(x), exact=not self.training)
        return run(self.config, self._call, x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, R, R) to the logits (B, classes) with which each image leaves.

        Everything is computed for all images, and for each the first exit that is sure enough is kept;
        `segments` are for running no further than an image needs.
        """
        return leave(self.logits(x), self.config.exits)[0]

    def segments(self) -> list[Segment]:
        """Return the network cut after each exit: real branching runs the segments one by one."""
        if self.chosen is not None:
            return [Segment(Body(self.chosen), nn.Identity(), None)]
        if self.glance is not None:
            return self._looks(self.glance)
        found = []
        every = list(stretches(self.config))
        carried = [carries(config) for stretch in every for _, config in stretch.body]
        several, start = False, 0
        for stretch in every:
            for _, config in stretch.body:
                several = isinstance(config, BlockConfig) and config.scales is not None
            end = start + len(stretch.body)
            takes, gives = alive(carried, start), alive(carried, end)
            slot, config = stretch.classifier
            classifier = self._module(slot)
            if several or gives:
                classifier = Coarsest(classifier, config.in_channels)
            modules = [self._module(slot) for slot, _ in stretch.body]
            if start and self.config.recurrent:
                modules.insert(0, self._module("recurrent"))  # for its weights
            body = Body(*modules, takes=takes, gives=gives)
            found.append(Segment(body, classifier, stretch.exit))
            start = end
        return found

    def looks_at(self, x: Tensor) -> Tensor:
        """Return where images (B, channels, R, R) are looked at after a glance: the first pixels (B, 2)."""
        assert self.config.glance is not None
        assert self.glance is not None
        (slot, where), *_ = self.config.focusing
        middle = self._call(slot, where, glance_at(self.config, self._call, self.glance(x)))
        return first_pixel(middle, self.config.resolution, self.config.glance.size)

    def _looks(self, glance: nn.Module) -> list[Segment]:
        """Return the maps of the glance and of the closer look."""
        config = self.config
        (place,) = config.exits
        first, second = (
            {slot: self._module(slot) for slot, _ in slots} for slots in (config.looking, config.focusing)
        )
        classifier = GlanceClassifier(config, {place.slot: self._module(place.slot)})
        return [
            Segment(Body(GlanceStep(config, first, glance)), classifier, place),
            Segment(Body(FocusStep(config, second)), self._module(config.head_slot), None),
        ]

    def _call(self, slot: str, _: SlotConfig, x: Any) -> Any:
        return self._module(slot)(x)

    def _module(self, slot: str) -> nn.Module:
        return self.slots[slot_module(slot)]
