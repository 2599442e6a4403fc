"""Networks of stages for images of any height and width, and a head that reads their maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dynnas.nn.config.backbone import BackboneConfig, MapHeadConfig
from dynnas.nn.config.network import SlotConfig
from dynnas.nn.exits.map_exits import MapExits, as_head, read_at
from dynnas.nn.networks.network import build, slot_module
from dynnas.nn.registry import HEADS

PartConfig = SlotConfig | MapHeadConfig

Call = Callable[..., Any]
"""A function that runs a part, by its slot, its config and its input."""


def build_part(config: PartConfig) -> nn.Module:
    """Build the module of one slot: the stem, a block, or a head of any kind.

    Raises:
        SpaceError: the config names something that is not registered.
    """
    if isinstance(config, MapHeadConfig):
        head: nn.Module = HEADS[config.kind.name](config)
        return head
    return build(config)


def parts_of(config: BackboneConfig) -> tuple[tuple[str, PartConfig], ...]:
    """Return every slot with its config: stem, blocks, head."""
    ends = ((end.slot, end.config) for end in config.ends)
    return (("stem", config.stem), *config.blocks, *ends)


def run_backbone(config: BackboneConfig, call: Call, x: Tensor) -> tuple[Tensor, ...]:
    """Run a network on images (B, channels, H, W), with `call(slot, config, x)` running each slot.

    Returns:
        What each exit says in order, then what the head says: (B, ...) each.
    """
    wanted = {slot: stride for stride, slot in config.taps.items()}
    maps: dict[int, Tensor] = {}
    said: list[Tensor] = []
    for slots, end in config.stretches():
        for slot, part in slots:
            x = call(slot, part, x)
            if slot in wanted:
                maps[wanted[slot]] = x
        read = read_at(end, [maps[stride] for stride in end.reads], x)
        said.append(as_head(config, call(end.slot, end.config, read)))
    return tuple(said)


def features(config: BackboneConfig, call: Call, x: Tensor) -> dict[int, Tensor]:
    """Return the last map (B, C, H / stride, W / stride) of each stride."""
    wanted = {slot: stride for stride, slot in config.taps.items()}
    x = call("stem", config.stem, x)
    found = {}
    for slot, block in config.blocks:
        x = call(slot, block, x)
        if slot in wanted:
            found[wanted[slot]] = x
    return found


class BackboneNetwork(nn.Module):
    """The network of a config; its slots' modules are in `slots`, keyed as those of a `Network`."""

    def __init__(self, config: BackboneConfig, slots: Mapping[str, nn.Module] | None = None) -> None:
        """Build every slot, if `slots` does not bring them along.

        Raises:
            SpaceError: the config names something that is not registered.
        """
        super().__init__()
        self.structure = config
        slots = slots or {slot: build_part(each) for slot, each in parts_of(config)}
        self.slots = nn.ModuleDict()
        if config.exits:
            self.slots["exits"] = MapExits(config, slots)
        else:
            self.slots.update({slot_module(slot): module for slot, module in slots.items()})

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, channels, H, W) to what the head gives: (B, ...).

        Of a network with exits it is what the exit gives by which each image leaves; in training all exits'
        answers.
        """
        if self.structure.exits:
            found: Tensor | tuple[Tensor, ...] = self.slots["exits"](x)
            return found
        return run_backbone(self.structure, self._call, x)[0]

    def features(self, x: Tensor) -> dict[int, Tensor]:
        """Map images (B, channels, H, W) to the last map (B, C, H / stride, W / stride) of each stride."""
        return features(self.structure, self._call, x)

    def _call(self, slot: str, _: PartConfig, x: Tensor | Sequence[Tensor]) -> Any:
        exits = self.slots["exits"] if self.structure.exits else None
        module = exits.part(slot) if isinstance(exits, MapExits) else self.slots[slot_module(slot)]
        return module(x)
