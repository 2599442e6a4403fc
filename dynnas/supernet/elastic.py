"""Elasticity derived from shapes: any plain torch module becomes a slice of shared tensors.

An `Elastic` knows the modules that one place can take, each by what it is built from. For every named
parameter it keeps one shared tensor, as large on every axis as any of those modules needs. Running one of
them slices that tensor to the shape that the plain module wants, by the rules of `dynnas.nn.slicing`.
Extraction copies the same slices into a module of its own, so elastic and extracted outputs are equal, not
close.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.context import PLAIN, Context, Contextual, layers_of, supplied
from dynnas.nn.slices import Axis, Layout, Slice, slice_of, write
from dynnas.nn.slicing import layouts, places
from dynnas.supernet.blank import blank, drop_values, fill, fit_buffers, forget_statistics
from dynnas.supernet.shared import SharedTensors

Key = TypeVar("Key", bound=Hashable)

Convert = Callable[[nn.Module], nn.Module]
"""Changes a module in place, or returns another one with the same tensors."""

KEPT = 256
"""Maximum number of modules without values that are kept; the least recently run are dropped."""


@dataclass(frozen=True)
class _Wire:
    """One tensor of a skeleton: where it belongs, and the part of a shared tensor that feeds it."""

    owner: Any
    key: Any
    meta: Tensor
    path: str
    part: Slice


@dataclass(frozen=True)
class _Skeleton:
    """A module without values, to run on slices."""

    module: nn.Module
    wires: tuple[_Wire, ...]
    layers: tuple[Contextual, ...]


class Elastic(nn.Module, Generic[Key]):
    """The shared tensors of many modules, and these modules, which run on slices of them.

    Args:
        build: makes the module of a key, and the same one whenever it is called with the same key.
        covering: the keys to make room for; each that is run later must fit into the largest of these.
        shared_name: the name under which a module's tensor is shared, from the key and its own name there.
        kept: how many modules without values are kept for the next run.

    Raises:
        SpaceError: no rule says how a tensor of several shapes is sliced. The message names it.
    """

    def __init__(
        self,
        build: Callable[[Key], nn.Module],
        covering: Iterable[Key],
        *,
        shared_name: Callable[[Key, str], str] | None = None,
        kept: int = KEPT,
    ) -> None:
        super().__init__()
        self._build, self._shared_name, self._kept = build, shared_name, kept
        self._skeletons: OrderedDict[tuple[Key, Convert | None], _Skeleton] = OrderedDict()
        shared = SharedTensors()
        for key in covering:
            # Built with values: the shared tensors start as the module's author initialises them.
            module = build(key)
            found = layouts(module)
            tensors = {name: owner[place] for name, owner, place in places(module)}
            for name, layout in found.items():
                shared.add(self._path(key, name), layout, tensors[name])
        self._room: dict[str, tuple[Axis, ...]] = shared.rooms()
        for path, tensor in shared.tensors():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(path, tensor)
            else:
                self.register_buffer(path, tensor)

    def forward(
        self, key: Key, *inputs: Any, context: Context = PLAIN, convert: Convert | None = None, **options: Any
    ) -> Any:
        """Run the module of `key` on slices of the shared tensors; batch norm uses the batch's statistics.

        The layers of the module are supplied with `context`; `convert` runs what it makes of it, such as one
        whose batch norms see all ranks. Inputs, options and outputs are those of the module.
        Like `torch.func.functional_call`, with the wiring worked out once a key: the generic call costs as
        much as the arithmetic of a small block.
        """
        place = (key, convert)
        skeleton = self._skeletons.get(place)
        if skeleton is None:
            skeleton = self._skeletons[place] = self._skeleton(key, convert)
            if len(self._skeletons) > self._kept:
                self._skeletons.popitem(last=False)
        else:
            self._skeletons.move_to_end(place)
        if skeleton.module.training != self.training:
            skeleton.module.train(self.training)
        try:
            for wire in skeleton.wires:
                wire.owner[wire.key] = wire.part.of(self._shared(wire.path))
            if context is PLAIN or not skeleton.layers:
                return skeleton.module(*inputs, **options)
            with supplied(skeleton.layers, context):
                return skeleton.module(*inputs, **options)
        finally:
            for wire in skeleton.wires:
                wire.owner[wire.key] = wire.meta

    def extract(self, key: Key) -> nn.Module:
        """Return a plain module with its own copies of the slices; its batch-norm statistics are reset."""
        module = blank(lambda: self._build(key))
        slices = {}
        for name, layout in layouts(module).items():
            path = self._path(key, name)
            slices[name] = self._slice(key, name, path, layout).of(self._shared(path))
        with torch.no_grad():
            fit_buffers(module, slices, self._like)
            fill(module, slices)
        return module.train(self.training)

    def write(self, key: Key, tensors: Mapping[str, Tensor]) -> list[str]:
        """Give shared tensors the values that the module of `key` has in `tensors`, in place.

        Returns:
            The names whose tensor has the shape that the module asks for; others are left out.
        """
        written = []
        for name, layout in layouts(blank(lambda: self._build(key))).items():
            if name in tensors and tensors[name].shape == layout.shape:
                path = self._path(key, name)
                write(self._shared(path), self._room[path], layout, tensors[name])
                written.append(name)
        return written

    def _path(self, key: Key, name: str) -> str:
        name = self._shared_name(key, name) if self._shared_name else name
        return name.replace(".", "/")

    def _shared(self, path: str) -> Tensor:
        tensor: Tensor | None = self._parameters.get(path)
        if tensor is None:
            tensor = self._buffers[path]
        assert tensor is not None
        return tensor

    @property
    def _like(self) -> Tensor:
        """Return any shared tensor: all are on one device."""
        tensors = (*self._parameters.values(), *self._buffers.values())
        return next((tensor for tensor in tensors if tensor is not None), torch.empty(0))

    def _slice(self, key: Key, name: str, path: str, layout: Layout) -> Slice:
        if path not in self._room:
            raise SpaceError(
                f"the network of {key} has a tensor {name!r} that none of those had for which the supernet "
                "was made; name such a network in `covering`"
            )
        try:
            return slice_of(self._room[path], layout)
        except SpaceError as error:
            raise SpaceError(
                f"the network of {key}, tensor {name!r}: {error}; name a network as large as this one in "
                "`covering`"
            ) from error

    def _skeleton(self, key: Key, convert: Convert | None) -> _Skeleton:
        module = blank(lambda: self._build(key))
        module = convert(module) if convert else module
        found = layouts(module)
        drop_values(module, found)
        fit_buffers(module, found, self._like)
        forget_statistics(module)
        parts = {}
        for name, layout in found.items():
            path = self._path(key, name)
            parts[name] = path, self._slice(key, name, path, layout)
        wires = [
            _Wire(owner, place, owner[place], *parts[name])
            for name, owner, place in places(module)
            if name in parts
        ]
        return _Skeleton(module, tuple(wires), layers_of(module))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Elastic[Key]:
        self._skeletons.clear()  # their own buffers lie where the shared tensors lay
        super()._apply(fn, recurse)
        return self
