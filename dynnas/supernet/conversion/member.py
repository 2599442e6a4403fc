"""Members of an elastic network: copies of its module with smaller tensors, and numbers that go with them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from dynnas.nn.conv2d import Conv2d
from dynnas.nn.slicing import Rule, centre, indices, places
from dynnas.supernet.conversion.coupling.sizes import Attribute
from dynnas.supernet.conversion.dynamic import rules_of, sliced


@dataclass(frozen=True)
class Counted:
    """A number that a module keeps: that of certain channels, times a factor."""

    attribute: Attribute
    factor: int
    kept: int


@dataclass(frozen=True)
class Cuts:
    """Parts that a member lacks beside the whole network.

    Attributes:
        indices: those that stay, by tensor and axis. kernels: their sides, by the name of the convolution.
        skipped: names of blocks that are left out. counted: numbers that modules keep.
        whole_groups: names of weights of convolutions whose groups stay or go as a whole.
        ops: how kernels depend on the image, by the name of the convolution, where they do.
    """

    indices: Mapping[tuple[str, int], np.ndarray]
    kernels: Mapping[str, int]
    skipped: Sequence[str]
    counted: Sequence[Counted]
    whole_groups: frozenset[str]
    ops: Mapping[str, str] = field(default_factory=dict)

    def kept(self, conv: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the indices of output and of input channels that a convolution keeps; None for all."""
        name = f"{conv}.weight"
        return self.indices.get((name, 0)), self.indices.get((name, 1))

    def rules(self) -> dict[str, Rule]:
        """Return the rules by which the tensors of a member are slices of those of the whole network."""
        found: dict[str, Rule] = {}
        for (name, axis), kept in self.indices.items():
            rule = indices(tuple(kept.tolist()), axis)
            found[name] = found[name] & rule if name in found else rule
        return found


Dynamics = Mapping[tuple[str, str], Conv2d]
"""Dynamic convolutions with all channels, by the name of the convolution that they replace, and their op."""


def cut(template: nn.Module, cuts: Cuts, dynamics: Dynamics) -> nn.Module:
    """Return a copy of `template` that is smaller by `cuts`.

    The class of the module is the same; what is left out is `torch.nn.Identity`.
    """
    module = copy.deepcopy(template)
    for name in cuts.skipped:
        parent, _, key = name.rpartition(".")
        module.get_submodule(parent)._modules[key] = nn.Identity()
    _cut_tensors(module, cuts)
    for name, part in module.named_modules():
        _fit_numbers(name, part, cuts)
    for counted in cuts.counted:
        _set_number(module, counted)
    for name, side in cuts.kernels.items():
        if name not in cuts.skipped:
            _cut_kernel(module, name, side)
    for name, op in cuts.ops.items():
        _replace(module, name, dynamics[name, op], cuts)
    return module


def _replace(module: nn.Module, name: str, whole: Conv2d, cuts: Cuts) -> None:
    parent, _, key = name.rpartition(".")
    try:
        conv = module.get_submodule(name)
    except AttributeError:  # in a block that is left out
        return
    assert isinstance(conv, nn.Conv2d)
    made = sliced(conv, whole, rules_of(whole, *cuts.kept(name)))
    module.get_submodule(parent)._modules[key] = made


def _cut_tensors(module: nn.Module, cuts: Cuts) -> None:
    by_name: dict[str, list[tuple[int, np.ndarray]]] = {}
    for (name, axis), kept in cuts.indices.items():
        by_name.setdefault(name, []).append((axis, kept))
    made: dict[str, Tensor] = {}
    for name, owner, key in list(places(module)):
        if name not in by_name:
            continue
        if name not in made:
            old = owner[key]
            new = old.detach()
            for axis, kept in by_name[name]:
                new = new.index_select(axis, torch.as_tensor(kept, device=new.device))
            made[name] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
        owner[key] = made[name]


def _fit_numbers(name: str, part: nn.Module, cuts: Cuts) -> None:
    """Let a layer of torch, or one derived from it, say the sizes that its tensors have."""
    weight = getattr(part, "weight", None)
    if not isinstance(weight, Tensor):
        return
    weight_name = f"{name}.weight" if name else "weight"
    if isinstance(part, _ConvNd):
        out, inner = (weight.shape[1], weight.shape[0]) if part.transposed else weight.shape[:2]
        if weight_name in cuts.whole_groups:
            part.groups = part.groups * out // part.out_channels
        part.out_channels, part.in_channels = out, inner * part.groups
        if part.transposed:
            part.in_channels = inner
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = weight.shape
    elif isinstance(part, _NormBase):
        part.num_features = weight.shape[0]
    elif isinstance(part, nn.GroupNorm):
        part.num_channels = weight.shape[0]
    elif isinstance(part, nn.LayerNorm) or hasattr(part, "normalized_shape"):
        part.normalized_shape = tuple(weight.shape)  # type: ignore[assignment]
    elif isinstance(part, nn.Embedding):
        part.embedding_dim = weight.shape[1]


def _set_number(module: nn.Module, counted: Counted) -> None:
    path, name, place = counted.attribute
    try:
        part = module.get_submodule(path)
    except AttributeError:  # in a block that is left out
        return
    if not hasattr(part, name):
        return
    value: Any = counted.kept * counted.factor
    if place is not None:
        listed = list(getattr(part, name))
        listed[place] = value
        value = type(getattr(part, name))(listed)
    setattr(part, name, value)


def _cut_kernel(module: nn.Module, name: str, side: int) -> None:
    """Take the centre of a kernel, and as much less padding."""
    try:
        part = module.get_submodule(name)
    except AttributeError:
        return
    if not isinstance(part, _ConvNd):
        return
    old, weight = part.kernel_size[0], part.weight
    less = (old - side) // 2
    middle = (slice(None), slice(None), slice(less, less + side), slice(less, less + side))
    part.weight = nn.Parameter(weight.detach()[middle].clone(), weight.requires_grad)
    part.kernel_size = (side, side)
    if isinstance(part.padding, tuple) and max(part.padding) > 0:
        part.padding = tuple(pad - less * gap for pad, gap in zip(part.padding, part.dilation, strict=True))
        part._reversed_padding_repeated_twice = [pad for pad in reversed(part.padding) for _ in range(2)]


def kernel_rule(rule: Rule | None) -> Rule:
    """Return the rule of a kernel whose centre is a smaller one."""
    return (rule & centre(2, 3)) if rule is not None else centre(2, 3)
