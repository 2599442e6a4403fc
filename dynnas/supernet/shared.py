"""Shared tensors as they grow: one for every name, with room for the tensors of all networks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dynnas.errors import SpaceError
from dynnas.nn.slices import Axis, Layout, grid, joined_room, lengths

_FUSED = ("qkv", "in_proj", "kv_proj")
"""The names of tensors that hold several projections one after the other."""


class Rooms:
    """The room that every shared tensor needs, from the layouts of the networks."""

    def __init__(self) -> None:
        self.axes: dict[str, tuple[Axis, ...]] = {}
        self._first: dict[str, Layout] = {}

    def add(self, path: str, layout: Layout) -> bool:
        """Make room for a tensor of `layout`, and return whether there was too little.

        Raises:
            SpaceError: no rule says how tensors of these shapes share one. The message names the parameter.
        """
        held = self.axes.get(path)
        first = self._first.setdefault(path, layout)
        _check(path, first, layout)
        try:
            room = joined_room(held, layout)
        except SpaceError as error:
            raise SpaceError(f"{path}: {error}; declare one rule for it in `elastic`") from error
        self.axes[path] = room
        return held is None or _sizes(room) != _sizes(held)


class SharedTensors:
    """The shared tensors with their values.

    Each keeps the values of the largest tensor that it was made for.
    """

    def __init__(self) -> None:
        self._rooms = Rooms()
        self._tensors: dict[str, Tensor] = {}

    def add(self, path: str, layout: Layout, tensor: Tensor) -> None:
        """Take in a network's tensor under the name `path`.

        Raises:
            SpaceError: as `Rooms.add` does.
        """
        held = self._tensors.get(path)
        if held is not None and isinstance(held, nn.Parameter) != isinstance(tensor, nn.Parameter):
            raise SpaceError(
                f"{path} is a parameter of one network and a buffer of another; give it two names"
            )
        before = self._rooms.axes.get(path)
        self._rooms.add(path, layout)
        room = self._rooms.axes[path]
        covered = _cover(None if before is None else (before, held), layout, tensor.detach(), room)
        if isinstance(tensor, nn.Parameter):
            trains = tensor.requires_grad or (held is not None and held.requires_grad)
            covered = nn.Parameter(covered, requires_grad=trains)
        self._tensors[path] = covered

    def rooms(self) -> dict[str, tuple[Axis, ...]]:
        """Return the axes of every shared tensor."""
        return self._rooms.axes

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every shared tensor with its name."""
        yield from self._tensors.items()


def _sizes(axes: tuple[Axis, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(axis.parts for axis in axes)


def _check(path: str, first: Layout, second: Layout) -> None:
    """Refuse what only a declared rule can decide."""
    shapes = f"{first.shape} and {second.shape}"
    shorter = min(first, second, key=lambda layout: len(layout.axes))
    if len(first.axes) != len(second.axes) and not shorter.averaged:
        if first.owner is not second.owner:
            kinds = f"{first.owner.__name__} and of {second.owner.__name__}"
            raise SpaceError(
                f"{path} has shapes {shapes}, of {kinds}: two kinds of layer need two names, such as "
                "nn.ModuleDict({kind: layer}) in their place; or declare "
                f'how it is shared: elastic = {{"{_pattern(path)}": mean()}} in its module'
            )
        raise SpaceError(
            f"{path} has shapes {shapes}: where the axes differ in number, declare how it is shared: "
            f'elastic = {{"{_pattern(path)}": mean()}} in its module takes the mean over leading axes'
        )
    if first.declared or second.declared or issubclass(first.owner, _ConvNd):
        return
    if len(first.shape) >= 4 and first.shape[2:] != second.shape[2:]:
        raise SpaceError(
            f"{path} has shapes {shapes} and is no weight of a convolution: declare how it is sliced: "
            f'elastic = {{"{_pattern(path)}": centre(-2, -1)}} in its module, or `leading`'
        )
    if any(word in path.lower() for word in _FUSED) and first.shape[0] != second.shape[0]:
        raise SpaceError(
            f"{path} has shapes {shapes}, and its name says that it holds several projections: declare "
            f'how it is sliced: elastic = {{"{_pattern(path)}": groups(3, "heads")}} in a module around it, '
            "where `heads` is an attribute of its module; or `leading`"
        )


def _pattern(path: str) -> str:
    return path.rpartition("/")[2]


def _cover(
    held: tuple[tuple[Axis, ...], Tensor | None] | None, layout: Layout, new: Tensor, room: tuple[Axis, ...]
) -> Tensor:
    """Return a tensor of the shape `room` asks for, with the values of the larger one of two."""
    shape = tuple(axis.size for axis in room)
    candidates = [] if held is None or held[1] is None else [(Layout((), held[0]), held[1].detach())]
    candidates.append((layout, new))
    for own, tensor in candidates:
        if own.logical == shape and all(axis.picked is None for axis in own.axes):
            return tensor.reshape(shape).clone()
    # Neither fits into the other: fill what no author initialised with values of the same spread.
    own, larger = max(candidates, key=lambda candidate: candidate[1].numel())
    tensor = torch.zeros(shape, dtype=larger.dtype, device=larger.device)
    if larger.is_floating_point() and larger.numel():
        tensor.normal_(float(larger.mean()), float(larger.std(correction=0)))
    tensor[grid(room, own)] = larger.reshape(lengths(own))
    return tensor
