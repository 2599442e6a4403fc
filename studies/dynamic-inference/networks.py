"""The networks of this study: a residual one, slimmer ones, and what lets it depend on the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from dynnas.data.dataset import Dataset
from dynnas.language.parser import parse_space
from dynnas.nn.config.network import FOCUS_SLOT, NetworkConfig
from dynnas.nn.gates.gate import shared_name
from dynnas.nn.networks.network import Network, slot_module
from dynnas.space.moves import largest
from dynnas.space.space import Space

SPACE = """
input: {{channels: {channels}, classes: {classes}, {input}}}
stem: {{width: {narrow}, kernel: 3, stride: 2}}
stages:
  - {{block: basic, depth: {depth}, width: {narrow}, stride: 1, {first}}}
  - {{block: basic, depth: {depth}, width: {wide}, stride: 2, {second}}}
{more}
"""
WIDTHS, DEPTH = (16, 32), 3
SIZES, GLANCE = (0.5, 0.7, 1.0), 0.6
"""Of the images' resolution: what is chosen from, and what both looks see."""


@dataclass(frozen=True)
class Family:
    """A way to depend on the image, as a space file says it; `{budget}` stands for the share to be used.

    Attributes:
        blocks: what is said of every block.
        second: what is said of the second stage's instead, if anything.
        more: sections of the space. input: what is said of the images' resolution.
        held: whether `dynnas.nn.gates.controls` can hold its gates.
        training: settings of the training's algorithms that are not the usual ones.
    """

    blocks: str = "gate: none"
    second: str | None = None
    more: str = ""
    input: str = "resolutions: {whole}"
    held: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_target(self) -> bool:
        """Whether a network is trained for a budget; else its thresholds are fitted for it."""
        return "{budget}" in self.blocks + self.more + self.input


FAMILIES: Mapping[str, Family] = {
    "skip": Family("gate: skip, gate_target: {budget}"),
    "width": Family("gate: width, gate_target: {budget}"),
    "channels": Family("gate: channels, gate_target: {budget}"),
    "moe": Family("gate: moe, gate_experts: 8, gate_target: {budget}"),
    # A tile of the second stage's 7x7 maps, with what its block reads around it, is three quarters of them.
    "positions": Family("gate: positions, gate_tiles: 2, gate_target: {budget}", second="gate: none"),
    "routes": Family("gate: routes, gate_target: {budget}"),
    "tree": Family("gate: tree, gate_target: {budget}"),
    # All blocks decided at once, by a small network that looks at the image (BlockDrop; channels: DeepMoE).
    "skip-policy": Family(
        "gate: skip, gate_reads: policy, gate_target: {budget}", more="policy: {width: 16}"
    ),
    "channels-policy": Family(
        "gate: channels, gate_reads: policy, gate_target: {budget}", more="policy: {width: 16}"
    ),
    "skip-recurrent": Family("gate: skip, gate_reads: recurrent, gate_target: {budget}"),
    "halt": Family("gate: halt, gate_target: {budget}"),
    "resolution": Family(input="resolutions: {sizes}, choose: per_image, target: {budget}"),
    "glance": Family(
        input="resolutions: [{glance}, {whole}], choose: glance",
        held=False,
        training={"early_exits": {"weight": 1.0}},
    ),
    # At the usual weight of 0.5 the first exits have not learned much when this short training ends.
    "exits": Family(
        more="exits: {positions: [stage1.0, stage1, stage2.0, stage2.1], count: 4, width: 64}",
        held=False,
        training={"early_exits": {"weight": 2.0}},
    ),
}

STRAIGHT = {"gate_learning": {"estimator": "straight"}}
REINFORCE_LAST = {"gate_learning": {"reinforce_epochs": 0.5}}

REMEDIES: Mapping[str, Family] = {
    "skip-straight": replace(FAMILIES["skip"], held=False, training=STRAIGHT),
    "skip-reinforce": replace(FAMILIES["skip"], held=False, training=REINFORCE_LAST),
    "width-straight": replace(FAMILIES["width"], held=False, training=STRAIGHT),
    "width-guided": replace(FAMILIES["width"], held=False, training={"gate_guidance": {}}),
    "channels-similar": replace(FAMILIES["channels"], held=False, training={"gate_similarity": {}}),
    "moe-of-4": replace(
        FAMILIES["moe"], blocks="gate: moe, gate_experts: 4, gate_target: {budget}", held=False
    ),
    "exits-light": replace(FAMILIES["exits"], training={}),
    "exits-three": replace(
        FAMILIES["exits"],
        more="exits: {positions: [stage1.0, stage1, stage2.1], count: 3, width: 32}",
        training={},
    ),
}
"""What was tried to make a family better, or what it was before."""

ALL = {**FAMILIES, **REMEDIES}


@dataclass(frozen=True)
class Static:
    """A network that does the same for every image, slimmed in width, depth or resolution."""

    name: str
    width: float = 1.0
    depth: int = DEPTH
    size: float = 1.0


STATIC = Static("static")
LADDERS: Mapping[str, tuple[Static, ...]] = {
    "width": (*(Static(f"static x{width:g}", width) for width in (0.5, 0.75, 0.875)), STATIC),
    "depth": (*(Static(f"static, depth {depth}", depth=depth) for depth in (1, 2)), STATIC),
    "resolution": (*(Static(f"static, images x{size:g}", size=size) for size in SIZES[:2]), STATIC),
}
STATICS = tuple(dict.fromkeys((STATIC, *(static for ladder in LADDERS.values() for static in ladder))))


def static_space(static: Static, dataset: Dataset) -> Space:
    """The space of this one network."""
    size = round(static.size * dataset.size[0])
    return _space(dataset, f"resolutions: {size}", "gate: none", "gate: none", "", static)


def family_config(name: str, budget: float, dataset: Dataset) -> NetworkConfig:
    """The network of a family; `budget` is of no meaning to one without targets."""
    family = ALL[name]
    sizes = [round(size * dataset.size[0]) for size in SIZES]
    texts = (family.input, family.blocks, family.second or family.blocks, family.more)
    facts = {
        "{budget}": f"{budget:g}",
        "{sizes}": str(sizes),
        "{glance}": str(round(GLANCE * dataset.size[0])),
        "{whole}": str(dataset.size[0]),
    }
    said = (reduce(lambda text, fact: text.replace(*fact), facts.items(), text) for text in texts)
    return config_of(_space(dataset, *said, STATIC), dataset)


def config_of(space: Space, dataset: Dataset) -> NetworkConfig:
    """Of the one network of a space."""
    return space.network_config(largest(space), dataset.channels, dataset.task.outputs)


def _space(dataset: Dataset, input: str, first: str, second: str, more: str, static: Static) -> Space:
    narrow, wide = (round(static.width * channels) for channels in WIDTHS)
    images = {"channels": dataset.channels, "classes": dataset.task.outputs, "input": input}
    shape = {"narrow": narrow, "wide": wide, "depth": static.depth}
    return parse_space(SPACE.format(**images, **shape, first=first, second=second, more=more))


def inherit(network: Network, base: Network) -> Network:
    """Give `network` the weights and statistics that it shares with `base`; what decides stays new.

    After a glance both looks have them; the classifiers, which read something else, stay new too.
    """
    known = {slot_module(slot): base.slots[slot_module(slot)].state_dict() for slot, _ in base.config.slots()}
    for slot, _ in network.config.slots():
        found = known.get(slot_module(slot.removeprefix(f"{FOCUS_SLOT}.")), {})
        module = network.slots[slot_module(slot)]
        own = module.state_dict()
        for name, value in own.items():
            same = found.get(shared_name(name), value)
            own[name] = same if same.shape == value.shape else value
        module.load_state_dict(own)
    return network
