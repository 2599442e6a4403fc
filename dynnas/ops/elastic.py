"""Elasticity derived from shapes: any plain torch module becomes a slice of shared tensors.

An `ElasticSlot` knows the configs that one place of the network can take. For every named parameter it keeps one
shared tensor, as large on every axis as any of those configs needs. Running a config slices that tensor to the shape
that the plain module wants:

- the last two axes of a tensor with four or more axes are a kernel's: they take its centre;
- an axis that is missing at the front takes index 0 (a static convolution is expert 0 of the bank);
- every other axis takes its leading part (channels, hidden units, experts).

Extraction copies the same slices into a module of its own, so elastic and extracted outputs are equal, not close.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynnas.ops.build import build
from dynnas.space.network import BlockConfig, SlotConfig

KERNEL_AXES_FROM = 4
"""Tensors with at least this many axes end in the two axes of a kernel."""

Index = tuple[int | slice, ...]


def slice_index(shared: Sequence[int], wanted: Sequence[int]) -> Index | None:
    """The index that cuts a tensor of shape `wanted` out of one of shape `shared`; None when they are the same.

    Raises:
        ValueError: `wanted` does not fit into `shared` (a bug of an op: its shapes do not grow with its knobs).
    """
    if tuple(shared) == tuple(wanted):
        return None
    missing = len(shared) - len(wanted)
    if missing < 0 or any(want > have for want, have in zip(wanted, shared[missing:], strict=True)):
        raise ValueError(f"shape {tuple(wanted)} is no slice of the shared shape {tuple(shared)}")
    index: list[int | slice] = [0] * missing
    first_kernel_axis = len(shared) - 2 if len(shared) >= KERNEL_AXES_FROM else len(shared)
    for axis in range(missing, len(shared)):
        want, have = wanted[axis - missing], shared[axis]
        start = (have - want) // 2 if axis >= first_kernel_axis else 0
        index.append(slice(start, start + want))
    return tuple(index)


@dataclass(frozen=True)
class _Wire:
    """One tensor of a skeleton: where it hangs in the module tree and which slice of which shared tensor feeds it."""

    owner: dict[str, Tensor | None]
    name: str
    shared: str
    index: Index | None


@dataclass(frozen=True)
class _Skeleton:
    module: nn.Module
    wires: tuple[_Wire, ...]


class ElasticSlot(nn.Module):
    """The shared tensors of one slot, and the modules that run on slices of them.

    Args:
        configs: the configs to make room for; every config run later must fit into the largest of these.
        experts: "shared" lets the op types of a block use the same bank (static is expert 0); "separate" gives each
            op type tensors of its own.
    """

    def __init__(self, configs: Sequence[SlotConfig], experts: str = "shared") -> None:
        super().__init__()
        self._experts = experts
        self._skeletons: dict[SlotConfig, _Skeleton] = {}
        largest: dict[str, Tensor] = {}
        for config in configs:
            # Built for real, one after the other: the initial values are those of the op's author.
            module = build(config)
            for name, tensor in _tensors(module):
                path = self._path(config, name)
                largest[path] = _cover(largest[path], tensor.detach()) if path in largest else tensor.detach()
            buffers = {name for name, _ in _buffers(module)}
        self._paths = {path: path.replace(".", "__") for path in largest}
        for path, tensor in largest.items():
            if path.rsplit("/", 1)[-1] in buffers:
                self.register_buffer(self._paths[path], tensor.clone())
            else:
                self.register_parameter(self._paths[path], nn.Parameter(tensor.clone()))

    def forward(self, config: SlotConfig, x: Tensor) -> Tensor:
        raise NotImplementedError
