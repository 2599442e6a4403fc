"""Elasticity derived from shapes: any plain torch module becomes a slice of shared tensors.

An `ElasticSlot` knows the configs that one place of the network can take. For every named parameter it
keeps one shared tensor, as large on every axis as any of those configs needs. Running a config slices that
tensor to the shape that the plain module wants:

- the last two axes of a tensor with four or five axes are a kernel's, and the last four of one with six (a
  kernel for every tap of a kernel): they take its centre;
- over an axis that is missing at the front they take the mean (a static convolution is the mean of the bank);
- every other axis takes its leading part (channels, hidden units, experts).

Extraction copies the same slices into a module of its own, so elastic and extracted outputs are equal, not
close.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynnas.nn.context import PLAIN, Context, Contextual, layers_of, supplied
from dynnas.nn.gates.gate import is_of_gate, shared_name
from dynnas.nn.networks.network import build
from dynnas.space.config.network import BlockConfig, SlotConfig

KERNEL_AXES = {4: 2, 5: 2, 6: 4}
"""How many axes of a kernel a tensor ends in, by the number of its axes."""


@dataclass(frozen=True)
class Cut:
    """How to get the tensor of a module from a shared one.

    Attributes:
        index: what to keep of each axis of the shared tensor; None for all of it.
        averaged: how many of its first axes the mean is taken over.
    """

    index: tuple[slice, ...] | None
    averaged: int = 0

    def of(self, shared: Tensor) -> Tensor:
        """The part of `shared`: a view, unless a mean is taken."""
        part = shared if self.index is None else shared[self.index]
        return part.mean(tuple(range(self.averaged))) if self.averaged else part


def cut(shared: Sequence[int], wanted: Sequence[int]) -> Cut:
    """How a tensor of shape `wanted` is cut out of one of shape `shared`.

    Raises:
        ValueError: `wanted` does not fit into `shared` (a bug of an op: its shapes do not grow with its
            knobs).
    """
    missing = len(shared) - len(wanted)
    if missing < 0 or any(want > have for want, have in zip(wanted, shared[missing:], strict=True)):
        raise ValueError(f"shape {tuple(wanted)} is no slice of the shared shape {tuple(shared)}")
    if tuple(shared[missing:]) == tuple(wanted):
        return Cut(None, missing)
    index = [slice(None)] * missing
    first_kernel_axis = len(shared) - KERNEL_AXES.get(len(shared), 0)
    for axis in range(missing, len(shared)):
        want, have = wanted[axis - missing], shared[axis]
        start = (have - want) // 2 if axis >= first_kernel_axis else 0
        index.append(slice(start, start + want))
    return Cut(tuple(index), missing)


@dataclass(frozen=True)
class _Wire:
    """One tensor of a skeleton: where it hangs, and the part of a shared tensor that feeds it."""

    owner: dict[str, Tensor | None]
    name: str
    meta: Tensor
    path: str
    cut: Cut


@dataclass(frozen=True)
class _Skeleton:
    """A module without values (on the meta device), to run on slices."""

    module: nn.Module
    wires: tuple[_Wire, ...]
    layers: tuple[Contextual, ...]


class ElasticSlot(nn.Module):
    """The shared tensors of one slot, and the modules that run on slices of them.

    Args:
        configs: the configs to make room for; every config run later must fit into the largest of these.
        experts: "shared" lets the op types of a block use the same bank (static is its mean); "separate"
            gives each op type tensors of its own.
    """

    def __init__(self, configs: Sequence[SlotConfig], experts: str = "shared") -> None:
        super().__init__()
        self._separate = experts == "separate"
        self._skeletons: dict[SlotConfig, _Skeleton] = {}
        self._convert: Callable[[nn.Module], nn.Module] | None = None
        for config in configs:
            # Built with values: the shared tensors start as the author of the op initialises them.
            module = build(config)
            for name, parameter in module.named_parameters():
                path = self._path(config, name)
                self.register_parameter(
                    path, nn.Parameter(_cover(self._parameters.get(path), parameter.detach()))
                )
            for name, buffer in _own_buffers(module):
                path = self._path(config, name)
                self.register_buffer(path, _cover(self._buffers.get(path), buffer))

    def forward(self, config: SlotConfig, x: Tensor, context: Context = PLAIN) -> Tensor:
        """Run `config` on `x` with slices of the shared tensors; batch norm uses the statistics of the batch.

        The module's layers are supplied with `context`. Shapes are those of the module that `build(config)`
        gives. Like `torch.func.functional_call`, with the
        wiring worked out once a config: the generic call costs as much as the arithmetic of a small block.
        """
        skeleton = self._skeletons.get(config)
        if skeleton is None:
            skeleton = self._skeletons[config] = self._skeleton(config)
        if skeleton.module.training != self.training:
            skeleton.module.train(self.training)
        try:
            for wire in skeleton.wires:
                wire.owner[wire.name] = wire.cut.of(self._shared(wire.path))
            if context is PLAIN or not skeleton.layers:
                return skeleton.module(x)
            with supplied(skeleton.layers, context):
                return skeleton.module(x)
        finally:
            for wire in skeleton.wires:
                wire.owner[wire.name] = wire.meta

    def converted(self, convert: Callable[[nn.Module], nn.Module]) -> None:
        """Run what `convert` makes of modules from now on; what `extract` gives is as it was built."""
        self._convert = convert
        self._skeletons.clear()

    def extract(self, config: SlotConfig) -> nn.Module:
        """A plain module with its own copies of the slices; its batch-norm statistics are reset."""
        device = next(self.parameters()).device
        with torch.device("meta"):
            module = build(config)
        module.to_empty(device=device)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.reset_running_stats()
        with torch.no_grad():
            for name, tensor in (*module.named_parameters(), *_own_buffers(module)):
                shared = self._shared(self._path(config, name))
                tensor.copy_(cut(shared.shape, tensor.shape).of(shared))
        return module.train(self.training)

    def _path(self, config: SlotConfig, name: str) -> str:
        owner = ""
        if isinstance(config, BlockConfig):
            name = shared_name(name) if config.gated else name
            separate = self._separate and not is_of_gate(name)
            owner = f"{config.block}/{config.op}/" if separate else f"{config.block}/"
        return owner + name.replace(".", "/")

    def _shared(self, path: str) -> Tensor:
        tensor: Tensor | None = self._parameters.get(path)
        if tensor is None:
            tensor = self._buffers.get(path)
        if tensor is None:
            raise ValueError(f"no shared tensor {path!r}: the slot was not built for this config")
        return tensor

    def _skeleton(self, config: SlotConfig) -> _Skeleton:
        with torch.device("meta"):
            module = build(config)
        module = self._convert(module) if self._convert else module
        wires = []
        for prefix, part in module.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                _forget_statistics(part)
            for owner in (part._parameters, part._buffers):
                for name, tensor in owner.items():
                    if tensor is not None:
                        path = self._path(config, f"{prefix}.{name}" if prefix else name)
                        part = cut(self._shared(path).shape, tensor.shape)
                        wires.append(_Wire(owner, name, tensor, path, part))
        return _Skeleton(module, tuple(wires), layers_of(module))


def _forget_statistics(norm: nn.modules.batchnorm._BatchNorm) -> None:
    """Make a batch norm use the statistics of the batch in any mode: shared weights have none."""
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def _own_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that are not batch-norm statistics: those belong to one network."""
    for prefix, part in module.named_modules():
        if not isinstance(part, nn.modules.batchnorm._BatchNorm):
            yield from part.named_buffers(prefix, recurse=False)


def _cover(held: Tensor | None, new: Tensor) -> Tensor:
    """A tensor with room for both, which keeps the values of the roomier one."""
    if held is None:
        return new.clone()
    axes = max(held.ndim, new.ndim)
    shapes = [(1,) * (axes - tensor.ndim) + tuple(tensor.shape) for tensor in (held, new)]
    room = tuple(max(pair) for pair in zip(*shapes, strict=True))
    for tensor in (held, new):
        if tuple(tensor.shape) == room:
            return tensor.detach().clone()
    # Neither fits into the other: fill what no op initialised with values of the same spread.
    larger = max(held, new, key=Tensor.numel).detach()
    tensor = torch.empty(room, dtype=larger.dtype).normal_(
        float(larger.mean()), float(larger.std(correction=0))
    )
    part = cut(room, larger.shape)
    tensor[part.index or ...][(0,) * part.averaged] = larger
    return tensor
