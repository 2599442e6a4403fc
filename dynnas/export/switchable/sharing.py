"""The weights that several networks have in common, each kept once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.networks.network import Network, shared_names, slot_module
from dynnas.nn.slices import Axis, Layout, Slice, joined_room, slice_of, write
from dynnas.nn.slicing import layouts

LEAST_SHARED = 128
"""Minimum number of elements of a shared tensor: smaller ones are shorter than the description of a slice."""


@dataclass(frozen=True)
class Part:
    """A network's tensor as a slice of the shared tensor `path`."""

    path: str
    part: Slice


@dataclass(frozen=True)
class Sharing:
    """The tensors that several networks share, and those of each alone.

    Attributes:
        tensors: the shared tensors by path, as large on every axis as any network needs.
        parts: for each network the tensors that it takes from them, by their names in its `state_dict`.
        own: for each network its other tensors, such as the statistics of its batch norms.
    """

    tensors: dict[str, Tensor]
    parts: tuple[dict[str, Part], ...]
    own: tuple[dict[str, Tensor], ...]

    def state(self, member: int) -> dict[str, Tensor]:
        """Return the whole `state_dict` of a network; what it shares are views where that is possible."""
        taken = {name: each.part.of(self.tensors[each.path]) for name, each in self.parts[member].items()}
        return taken | self.own[member]


@torch.no_grad()
def share(networks: Sequence[nn.Module]) -> Sharing:
    """Find out what networks share, by the rules by which a supernet shares weights.

    A tensor that is not equal, element by element, to its part of the shared one stays the network's own, so
    that networks with weights of their own are right as well, and merely share less.

    Args:
        networks: on a CPU; parts of one supernet, each with its own batch-norm statistics.
    """
    found = [dict(_laid_out(network)) for network in networks]
    rooms = _rooms(found)
    states = [network.state_dict() for network in networks]
    tensors = {path: torch.zeros([axis.size for axis in room]) for path, room in rooms.items()}
    order = sorted(range(len(networks)), key=lambda at: sum(map(Tensor.numel, states[at].values())))
    for at in order:
        for name, (path, layout) in found[at].items():
            if path in rooms and len(layout.axes) == len(rooms[path]):
                write(tensors[path], rooms[path], layout, states[at][name])
    parts: list[dict[str, Part]] = []
    own: list[dict[str, Tensor]] = []
    for layouts_of, state in zip(found, states, strict=True):
        taken = {
            name: Part(path, slice_of(rooms[path], layout))
            for name, (path, layout) in layouts_of.items()
            if path in rooms
        }
        same = {
            name: each
            for name, each in taken.items()
            if _equal(each.part.of(tensors[each.path]), state[name])
        }
        parts.append(same)
        own.append({name: tensor.clone() for name, tensor in state.items() if name not in same})
    used = {each.path for mine in parts for each in mine.values()}
    return Sharing(
        {path: tensor for path, tensor in tensors.items() if path in used}, tuple(parts), tuple(own)
    )


def _equal(part: Tensor, tensor: Tensor) -> bool:
    return part.shape == tensor.shape and torch.equal(part, tensor)


def _laid_out(network: nn.Module) -> Iterator[tuple[str, tuple[str, Layout]]]:
    """Yield the name of every tensor that may be shared, its path, and its layout."""
    if not isinstance(network, Network):
        for name, layout in layouts(network).items():
            yield name, (name, layout)
        return
    shared_name = shared_names("shared")
    for slot, config in network.config.slots():
        module = slot_module(slot)
        for name, layout in layouts(network.slots[module]).items():
            yield f"slots.{module}.{name}", (f"{slot}/{shared_name(config, name)}", layout)


def _rooms(found: Sequence[dict[str, tuple[str, Layout]]]) -> dict[str, tuple[Axis, ...]]:
    """Return the axes of the tensors that are large enough, and that several networks have."""
    rooms: dict[str, tuple[Axis, ...]] = {}
    refused = set()
    users: dict[str, int] = {}
    for layouts_of in found:
        for path, layout in layouts_of.values():
            users[path] = users.get(path, 0) + 1
            try:
                rooms[path] = joined_room(rooms.get(path), layout)
            except SpaceError:
                refused.add(path)
    return {
        path: room
        for path, room in rooms.items()
        if users[path] > 1 and path not in refused and _elements(room) >= LEAST_SHARED
    }


def _elements(room: Sequence[Axis]) -> int:
    product = 1
    for axis in room:
        product *= axis.size
    return product
