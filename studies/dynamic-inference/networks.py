"""The networks of this study: a residual one, slimmer ones, and what lets it depend on the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynnas.data import Dataset
from dynnas.ops import Network, slot_module
from dynnas.ops.gate import shared_name
from dynnas.space import NetworkConfig, Space, largest, parse_space

SPACE = """
input: {{channels: {channels}, classes: {classes}, resolutions: {resolution}}}
stem: {{width: {narrow}, kernel: 3, stride: 2}}
stages:
  - {{block: basic, depth: {depth}, width: {narrow}, stride: 1, {first}}}
  - {{block: basic, depth: {depth}, width: {wide}, stride: 2, {second}}}
{more}
"""
WIDTHS, DEPTH = (16, 32), 3


@dataclass(frozen=True)
class Family:
    """A way to depend on the image, as a space file says it; `{budget}` stands for the share to be used.

    Attributes:
        blocks: what is said of every block.
        second: what is said of the second stage's instead, if anything.
        more: sections of the space.
        held: whether `dynnas.ops.gate_controls` can hold its gates.
        exit_weight: of the exits' loss beside the head's. At the usual 0.5 the first exits have not learned
            much when this short training ends.
    """

    blocks: str = "gate: none"
    second: str | None = None
    more: str = ""
    held: bool = True
    exit_weight: float = 0.5

    @property
    def has_target(self) -> bool:
        """Whether a network is trained for a budget; else its thresholds are fitted for it."""
        return "{budget}" in self.blocks + self.more


FAMILIES: Mapping[str, Family] = {
    "skip": Family("gate: skip, gate_target: {budget}"),
    "width": Family("gate: width, gate_target: {budget}"),
    "channels": Family("gate: channels, gate_target: {budget}"),
    "moe": Family("gate: moe, gate_experts: 8, gate_target: {budget}"),
    # A tile of the second stage's 7x7 maps, with what its block reads around it, is three quarters of them.
    "positions": Family("gate: positions, gate_tiles: 2, gate_target: {budget}", second="gate: none"),
    "exits": Family(
        more="exits: {positions: [stage1.0, stage1, stage2.0, stage2.1], count: 4, width: 64}",
        held=False,
        exit_weight=2.0,
    ),
}


@dataclass(frozen=True)
class Static:
    """A network that does the same for every image, slimmed in width or depth."""

    name: str
    width: float = 1.0
    depth: int = DEPTH


STATIC = Static("static")
LADDERS: Mapping[str, tuple[Static, ...]] = {
    "width": (*(Static(f"static x{width:g}", width) for width in (0.5, 0.75, 0.875)), STATIC),
    "depth": (*(Static(f"static, depth {depth}", depth=depth) for depth in (1, 2)), STATIC),
}
STATICS = tuple(dict.fromkeys((STATIC, *LADDERS["width"], *LADDERS["depth"])))


def static_space(static: Static, dataset: Dataset) -> Space:
    """The space of this one network."""
    return _space(dataset, static.width, static.depth, "gate: none", "gate: none", "")


def family_config(name: str, budget: float, dataset: Dataset) -> NetworkConfig:
    """The network of a family; `budget` is of no meaning to one without targets."""
    family = FAMILIES[name]
    blocks, second, more = (
        text.replace("{budget}", f"{budget:g}")
        for text in (family.blocks, family.second or family.blocks, family.more)
    )
    return config_of(_space(dataset, 1.0, DEPTH, blocks, second, more), dataset)


def config_of(space: Space, dataset: Dataset) -> NetworkConfig:
    """Of the one network of a space."""
    return space.network_config(largest(space), dataset.channels, dataset.classes)


def _space(dataset: Dataset, width: float, depth: int, first: str, second: str, more: str) -> Space:
    narrow, wide = (round(width * channels) for channels in WIDTHS)
    images = {name: getattr(dataset, name) for name in ("channels", "classes", "resolution")}
    return parse_space(
        SPACE.format(narrow=narrow, wide=wide, depth=depth, first=first, second=second, more=more, **images)
    )


def inherit(network: Network, base: Network) -> Network:
    """Give `network` the weights and statistics of the slots that it shares with `base`; gates stay new."""
    for slot, _ in base.config.slots():
        known = base.slots[slot_module(slot)].state_dict()
        module = network.slots[slot_module(slot)]
        own = {name: known.get(shared_name(name), value) for name, value in module.state_dict().items()}
        module.load_state_dict(own)
    return network
