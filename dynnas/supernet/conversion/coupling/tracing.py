"""One run of a network, in which every tensor is followed: what its axes carry, and what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from dynnas.errors import SpaceError
from dynnas.nn.layers.stepwise import stepwise_attention
from dynnas.supernet.conversion.coupling.channels import Axis, Channels, Couplings
from dynnas.supernet.conversion.coupling.sizes import ONCE, Attribute, Count, Rest, Size, attributes_in

_READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique2", "_unique2"}
"""Operators whose result, or its shape, depends on values."""


@dataclass(frozen=True)
class Facts:
    """Facts that are known of a tensor.

    Attributes:
        axes: the channels of each axis.
        from_input: whether its values depend on the network's input.
        tokens: names of blocks whose input reaches it by additions alone.
        parameter: the name of the parameter that it is.
    """

    axes: tuple[Axis, ...]
    from_input: bool = False
    tokens: frozenset[str] = frozenset()
    parameter: str | None = None


Rule = Callable[["Tracer", Any, Sequence[Any], Mapping[str, Any], Any], Any]
"""Function from (tracer, operator, arguments, options, result) to the axes of each result."""


@dataclass
class Follower:
    """A number that a module keeps, and channels that are `factor` times as many."""

    attribute: Attribute
    channels: Axis
    factor: Fraction = ONCE


def _as_many(one: Follower, other: Follower) -> tuple[Channels, Channels] | None:
    """Return as many channels of both, such as those of one head; None where they have no such part."""
    first, second = one.channels, other.channels
    if first is None or second is None or max(len(first), len(second)) % min(len(first), len(second)):
        return None
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    rows = longer.reshape(-1, len(shorter))
    return (rows[0], shorter) if (rows == rows[0]).all() else None


@dataclass
class Tracer:
    """Records of one run.

    Attributes:
        couplings: of all channels.
        tensors: axes of every parameter and buffer, by name.
        whole_groups: names of weights of convolutions whose groups stay or go as a whole.
        followers: numbers that modules keep.
        unknown: operators without a rule, and a module that uses each.
        read: names of the parameters and buffers that anything has read.
    """

    couplings: Couplings = field(default_factory=Couplings)
    tensors: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    whole_groups: set[str] = field(default_factory=set)
    followers: list[Follower] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    path: list[str] = field(default_factory=list)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    sizes: tuple[Any, ...] = ()
    paused: bool = False

    def __post_init__(self) -> None:
        """Begin with no tensors."""
        self._facts: Any = WeakIdKeyDictionary()

    @property
    def module(self) -> str:
        """The name of the module that is running."""
        return self.path[-1] if self.path else ""

    def know(self, name: str, tensor: Tensor, carries: bool) -> None:
        """Take in a parameter or a buffer of the network."""
        if tensor in self._facts:  # tied to one with another name
            self.tensors[name] = self._facts[tensor].axes
            return
        axes = tuple(self.couplings.new(size) if carries and size > 1 else None for size in tensor.shape)
        self.tensors[name] = axes
        self._facts[tensor] = Facts(axes, parameter=name)

    def facts(self, tensor: Tensor) -> Facts:
        """Return what is known of a tensor."""
        found: Facts | None = self._facts.get(tensor)
        return found if found is not None else Facts((None,) * tensor.dim())

    def set(self, tensor: Tensor, facts: Facts) -> None:
        """Take in what a tensor carries."""
        self._facts[tensor] = facts

    def axes(self, tensor: Tensor | None) -> tuple[Axis, ...]:
        """Return the channels of a tensor's axes."""
        return () if tensor is None else self.facts(tensor).axes

    def fix(self, tensor: Any, reason: str) -> None:
        """Say that the channels of all axes of a tensor must stay."""
        if isinstance(tensor, Tensor):
            for axis in self.axes(tensor):
                self.couplings.fix(axis, reason)

    def follow(self, size: Any, channels: Axis) -> None:
        """Note where a size comes from that counts channels: a number that a module keeps, or other channels.

        The latter are as many in every member: they are the same ones.
        """
        if isinstance(size, Size) and channels is not None:
            self._add_follower(Follower(size.attribute, channels, size.factor))
        if isinstance(size, Count) and size.parts == 1:
            self.same_number(size, channels)

    def follow_rest(self, size: Any, channels: Axis) -> None:
        """Note, if a size is the rest of a number, that the number counts these channels."""
        if isinstance(size, Rest):
            self.follow(size.whole, channels)

    def counted(self, size: Any) -> Axis:
        """Return the channels of a new axis that is as long as a number says, if anything is known of it."""
        if isinstance(size, Count) and size.parts == 1:
            return size.channels.reshape(-1)
        if not isinstance(size, Size):
            return None
        axis = self.couplings.new(size)
        self.follow(size, axis)
        return axis

    def same_number(self, size: Count, channels: Axis) -> None:
        """Note that these channels, if they are as many, are in number those that a size counts."""
        if channels is not None and channels.size == size.channels.size:
            self.couplings.count_alike(size.channels.reshape(-1), channels.reshape(-1))

    def follow_module(self, name: str, place: int | None, channels: Axis) -> None:
        """Note that the module that runs keeps the number of these channels in an attribute, if it does."""
        if channels is not None and hasattr(self.modules.get(self.module), name):
            self._add_follower(Follower(Attribute(self.module, name, place), channels))

    def _add_follower(self, new: Follower) -> None:
        """Take in a number of channels; those that the same number counts elsewhere are as many."""
        for known in self.followers:
            if known.attribute == new.attribute and (pair := _as_many(known, new)) is not None:
                self.couplings.count_alike(*pair)
        self.followers.append(new)


class _Operators(TorchDispatchMode):
    def __init__(self, tracer: Tracer, rule_of: Callable[[Any], Rule | None]) -> None:
        super().__init__()
        self.tracer, self.rule_of = tracer, rule_of

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tracer = self.tracer
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        known = [tracer.facts(each) for each in inputs]
        tracer.read |= {facts.parameter for facts in known if facts.parameter is not None}
        if tracer.paused:
            return func(*args, **kwargs)
        from_input = any(facts.from_input for facts in known)
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name in _READS and from_input:
            raise SpaceError(
                f"{_where(tracer)}: the forward pass depends on the values of its input (aten.{name}), so "
                "one run does not tell what the network is; make the modules around it elastic, or write it "
                "as a class of your own for Space.of"
            )
        shapes = [each.shape for each in inputs]
        result = func(*args, **kwargs)
        rule = self.rule_of(func)
        if rule is None:
            if any(axis is not None for facts in known for axis in facts.axes):
                tracer.unknown.setdefault(f"aten.{name}", _where(tracer))
            for each in inputs:
                tracer.fix(each, _no_rule(tracer, name))
            return result
        axes = rule(tracer, func, args, kwargs, result)
        if not isinstance(result, Tensor | tuple | list):  # a number, which carries nothing
            return result
        results = [result] if isinstance(result, Tensor) else list(result)
        axes = [axes] if isinstance(result, Tensor) else list(axes)
        tokens = _tokens(name, known, shapes, func)
        for tensor, found in zip(results, axes, strict=False):
            if isinstance(tensor, Tensor):
                tracer.set(tensor, Facts(tuple(found), from_input, tokens))
        return result


_KEEPS = {
    "view", "_unsafe_view", "reshape", "clone", "alias", "detach", "permute", "transpose", "t", "unsqueeze",
    "squeeze", "expand", "native_batch_norm", "_to_copy", "contiguous", "roll", "native_dropout",
    "hardswish", "hardswish_", "_native_batch_norm_legit_no_training", "leaky_relu", "prelu", "_prelu_kernel",
    "native_layer_norm", "native_group_norm",
}  # fmt: skip
_ADDS = {"add", "add_", "sub", "sub_"}


def _tokens(name: str, known: Sequence[Facts], shapes: Sequence[Any], func: Any) -> frozenset[str]:
    """Return whose input still stands in a result: behind additions, norms, activations and views."""
    if name in _ADDS:
        return frozenset().union(*(facts.tokens for facts in known))
    unary = len(known) == 1 and torch.Tag.pointwise in func.tags
    return known[0].tokens if known and (unary or name in _KEEPS) else frozenset()


def _no_rule(tracer: Tracer, name: str) -> str:
    running = tracer.modules.get(tracer.module)
    if isinstance(running, _SpectralNorm) or _has_hook(running, SpectralNorm):
        return "its spectral norm is that of the whole weight"
    if isinstance(running, _Orthogonal):
        return "its weight is orthogonal as a whole"
    return f"goes through aten.{name}, which has no rule"


def _has_hook(module: nn.Module | None, kind: type) -> bool:
    hooks = module._forward_pre_hooks.values() if module is not None else ()
    return any(isinstance(hook, kind) for hook in hooks)


def _where(tracer: Tracer) -> str:
    return tracer.module or "the network"


_SHAPES = {Tensor.shape.__get__, Tensor.size}  # type: ignore[attr-defined]  # a getter of C
"""Functions that tell a tensor's sizes."""


class _Functions(TorchFunctionMode):
    """Sees the sizes that a program gives before torch turns them into plain numbers, and whole functions."""

    def __init__(self, tracer: Tracer, function_rule_of: Callable[[Any], Any]) -> None:
        super().__init__()
        self.tracer, self.function_rule_of = tracer, function_rule_of

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = self.function_rule_of(func)
        if rule is not None and not self.tracer.paused:
            self.tracer.paused = True
            try:
                result = func(*args, **(kwargs or {}))
            finally:
                self.tracer.paused = False
            rule(self.tracer, args, kwargs or {}, result)
            return result
        if func in _SHAPES:
            return self._counted(args[0], func(*args, **(kwargs or {})))
        before = self.tracer.sizes
        given = attributes_in((args, kwargs))
        self.tracer.sizes = given or before
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.tracer.sizes = before

    def _counted(self, tensor: Tensor, found: Any) -> Any:
        """Return a tensor's sizes, or one of them, as numbers that know which channels they count."""
        if not isinstance(found, torch.Size):
            return found
        axes = self.tracer.axes(tensor) or (None,) * len(found)
        return torch.Size(
            size if axis is None or axis.size != size else Count(size, axis)
            for size, axis in zip(found, axes, strict=True)
        )


@contextmanager
def following(
    tracer: Tracer,
    network: nn.Module,
    rule_of: Callable[[Any], Rule | None],
    function_rule_of: Callable[[Any], Any],
) -> Iterator[None]:
    """Follow what runs inside; the modules of `network` are named.

    Operators have rules; functions that have one of their own are followed as a whole.
    """
    tracer.modules = dict(network.named_modules())
    names = {module: name for name, module in tracer.modules.items()}

    def enter(module: nn.Module, *_: Any) -> None:
        tracer.path.append(names.get(module, tracer.module))

    def leave(module: nn.Module, *_: Any) -> None:
        tracer.path.pop()

    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    try:
        with (
            torch.no_grad(),
            stepwise_attention(),
            _Functions(tracer, function_rule_of),
            _Operators(tracer, rule_of),
        ):
            yield
    finally:
        for hook in hooks:
            hook.remove()
