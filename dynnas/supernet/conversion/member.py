"""Members of an elastic network: copies of its module with smaller tensors, and numbers that go with them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.weight_norm import WeightNorm

from dynnas.nn.conv2d import Conv2d
from dynnas.nn.slicing import Rule, centre, indices, places
from dynnas.supernet.conversion.coupling.sizes import Attribute
from dynnas.supernet.conversion.dynamic import rules_of, sliced, take_slices
from dynnas.supernet.conversion.exits import ExitsAt, exit_rules, unsure_exit, with_exits
from dynnas.supernet.conversion.gating import gate_rules, gated


@dataclass(frozen=True)
class Counted:
    """A number that a module keeps: certain channels are `factor` times as many, and `kept` of them stay."""

    attribute: Attribute
    factor: Fraction
    kept: int


@dataclass(frozen=True)
class Cuts:
    """Parts that a member lacks beside the whole network.

    Attributes:
        indices: those that stay, by tensor and axis. kernels: their sides, by the name of the convolution.
        skipped: names of blocks that are left out. counted: numbers that modules keep.
        whole_groups: names of weights of convolutions whose groups stay or go as a whole.
        ops: how kernels depend on the image, by the name of the convolution, where they do.
        gates: the shares that blocks are to be used for, by their names, where there is a gate.
        exits: names of the modules behind which images may leave. threshold: how sure an exit must be.
        beside: the channels that stay of those that gates and exits read, by their keys.
        removed: those of the skipped blocks that are taken from their lists.
    """

    indices: Mapping[tuple[str, int], np.ndarray]
    kernels: Mapping[str, int]
    skipped: Sequence[str]
    counted: Sequence[Counted]
    whole_groups: frozenset[str]
    ops: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, float] = field(default_factory=dict)
    exits: tuple[str, ...] = ()
    threshold: float = 1.0
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()

    def trained_name(self, name: str) -> str:
        """Return the name that a member's tensor has in the whole network, gates and exits beside it."""
        if self.exits:
            part, number, name = name.split(".", 2)
            if part == "exits":
                return f"{ExitsAt.key(self.exits[int(number)])}.{name}"
        for block in self.gates:
            if name.startswith(f"{block}.block."):
                return f"{block}.{name.removeprefix(f'{block}.block.')}"
            if name.startswith(f"{block}.gate."):
                return f"gate:{block}.{name.removeprefix(f'{block}.gate.')}"
        return name

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
        for block in self.gates:
            key = f"gate:{block}"
            found |= {f"{key}.{name}": rule for name, rule in gate_rules(self.beside.get(key)).items()}
        for module in self.exits:
            key = ExitsAt.key(module)
            found |= {f"{key}.{name}": rule for name, rule in exit_rules(self.beside.get(key)).items()}
        return found


@dataclass(frozen=True)
class Begun:
    """Modules that a trained network may get, with all channels; with them it computes what it did.

    Attributes:
        ops: dynamic convolutions, by the name of the convolution that they replace, and their op.
        gates: by the name of the block. exits: by the name of the module behind which they stand.
    """

    ops: dict[tuple[str, str], Conv2d] = field(default_factory=dict)
    gates: dict[str, nn.Module] = field(default_factory=dict)
    exits: dict[str, nn.Module] = field(default_factory=dict)

    def modules(self) -> list[nn.Module]:
        """Return all of them."""
        return [*self.ops.values(), *self.gates.values(), *self.exits.values()]


def cut(template: nn.Module, cuts: Cuts, begun: Begun) -> nn.Module:
    """Return a copy of `template` that is smaller by `cuts`, and has what they have beside.

    The class of the module is the same, unless it has exits; what is left out is `torch.nn.Identity`, or gone
    from its list.
    """
    module = copy.deepcopy(template)
    for name in cuts.skipped:
        parent, _, key = name.rpartition(".")
        held = module.get_submodule(parent)._modules
        if name in cuts.removed:
            del held[key]
        else:
            held[key] = nn.Identity()
    _cut_tensors(module, cuts)
    for name, part in module.named_modules():
        _fit_numbers(name, part, cuts)
    for counted in cuts.counted:
        _set_number(module, counted)
    for name, side in cuts.kernels.items():
        if name not in cuts.skipped:
            _cut_kernel(module, name, side)
    for name, op in cuts.ops.items():
        _replace(module, name, begun.ops[name, op], cuts)
    for block, share in cuts.gates.items():
        _add_gate(module, block, share, begun.gates[block], cuts.beside.get(f"gate:{block}"))
    if not cuts.exits:
        return module
    exits = [_exit(begun.exits[name], cuts.beside.get(ExitsAt.key(name))) for name in cuts.exits]
    return with_exits(module, cuts.exits, exits, cuts.threshold)


def _add_gate(module: nn.Module, name: str, share: float, whole: nn.Module, kept: np.ndarray | None) -> None:
    parent, _, key = name.rpartition(".")
    channels = whole.get_parameter("skip.reduce.conv.weight").shape[1] if kept is None else len(kept)
    made = gated(module.get_submodule(name), channels, share)
    if not torch.empty(0).is_meta:
        take_slices(made.gate, whole, gate_rules(kept))
    module.get_submodule(parent)._modules[key] = made


def _exit(whole: nn.Module, kept: np.ndarray | None) -> nn.Module:
    layer = whole[2]  # type: ignore[index]
    made = unsure_exit(layer.in_features if kept is None else len(kept), layer.out_features)
    if not torch.empty(0).is_meta:
        take_slices(made, whole, exit_rules(kept))
    return made


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
    _fit_fused(part)
    for hook in part._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):  # it keeps the weight that it last computed
            hook(part, None)
    weight = getattr(part, "weight", None)
    if not isinstance(weight, Tensor):
        return
    weight_name = f"{name}.weight" if name else "weight"
    if isinstance(part, _ConvNd):
        first, second = weight.shape[:2]
        if weight_name in cuts.whole_groups:
            part.groups = part.groups * first // (part.in_channels if part.transposed else part.out_channels)
        if part.transposed:
            part.in_channels, part.out_channels = first, second * part.groups
        else:
            part.out_channels, part.in_channels = first, second * part.groups
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = weight.shape
    elif isinstance(part, nn.Bilinear):
        part.out_features, part.in1_features, part.in2_features = weight.shape
    elif isinstance(part, _NormBase):
        part.num_features = weight.shape[0]
    elif isinstance(part, nn.GroupNorm):
        part.num_channels = weight.shape[0]
    elif isinstance(part, nn.LayerNorm) or hasattr(part, "normalized_shape"):
        part.normalized_shape = tuple(weight.shape)  # type: ignore[assignment]
    elif isinstance(part, nn.Embedding):
        part.embedding_dim = weight.shape[1]


def _fit_fused(part: nn.Module) -> None:
    """Let recurrent layers, attention and transformers say their sizes."""
    held: Any = part
    if isinstance(part, nn.TransformerEncoder | nn.TransformerDecoder):
        held.num_layers = len(held.layers)
    elif isinstance(part, nn.RNNBase):
        held.input_size, held.hidden_size = held.weight_ih_l0.shape[1], held.weight_hh_l0.shape[1]
        if part.proj_size:
            held.proj_size, held.hidden_size = held.weight_hr_l0.shape
    elif isinstance(part, nn.RNNCellBase):
        held.input_size, held.hidden_size = held.weight_ih.shape[1], held.weight_hh.shape[1]
    elif isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None:
        held.embed_dim = held.kdim = held.vdim = part.in_proj_weight.shape[1]
        held.head_dim = held.embed_dim // part.num_heads


def _set_number(module: nn.Module, counted: Counted) -> None:
    path, name, place = counted.attribute
    try:
        part = module.get_submodule(path)
    except AttributeError:  # in a block that is left out
        return
    if not hasattr(part, name):
        return
    value: Any = int(counted.kept / counted.factor)
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
    less, axes = (old - side) // 2, len(part.kernel_size)
    middle = (slice(None), slice(None), *[slice(less, less + side)] * axes)
    part.weight = nn.Parameter(weight.detach()[middle].clone(), weight.requires_grad)
    part.kernel_size = (side,) * axes
    if isinstance(part.padding, tuple) and max(part.padding) > 0:
        part.padding = tuple(pad - less * gap for pad, gap in zip(part.padding, part.dilation, strict=True))
        part._reversed_padding_repeated_twice = [pad for pad in reversed(part.padding) for _ in range(2)]


def kernel_rule(rule: Rule | None, axes: int) -> Rule:
    """Return the rule of a kernel of this number of axes, whose centre is a smaller one."""
    own = centre(*range(2, 2 + axes))
    return own if rule is None else rule & own
