"""One run of a trained network, and what it tells: coupled channels, blocks that keep their shape."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from dynnas.errors import SpaceError
from dynnas.supernet.conversion.blocks import BlocksSeen, blocks_watched
from dynnas.supernet.conversion.coupling import (  # noqa: F401  these register rules
    layers,
    rearranged,
)
from dynnas.supernet.conversion.coupling.channels import Solution
from dynnas.supernet.conversion.coupling.functions import function_rule_of
from dynnas.supernet.conversion.coupling.operators import rule_of
from dynnas.supernet.conversion.coupling.sizes import sizes_known
from dynnas.supernet.conversion.coupling.tracing import Facts, Tracer, following
from dynnas.supernet.states import changed, noted


@dataclass(frozen=True)
class Wanted:
    """Options of `elastic`."""

    width: Sequence[float]
    divisor: int
    depth: float
    kernel: bool
    resolution: Sequence[int | tuple[int, int]]
    exclude: Sequence[str]
    ops: Sequence[str] = ()
    plain_depth: bool = False
    gates: Sequence[float] = ()
    exits: Sequence[str] = ()
    thresholds: Sequence[float] = ()

    def excludes(self, name: str) -> bool:
        """Tell whether a module or a tensor is excluded, by its own name or that of one around it."""
        steps = name.split(".")
        return any(
            fnmatchcase(".".join(steps[:count]), pattern)
            for pattern in self.exclude
            for count in range(1, len(steps) + 1)
        )


@dataclass(frozen=True)
class Example:
    """Inputs of a network: a tensor, a tuple of several inputs, or a mapping of those that have a name."""

    inputs: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> Example:
        """Return what `elastic` is given, in one form."""
        if isinstance(given, Mapping):
            return cls((), dict(given))
        return cls(given if isinstance(given, tuple) else (given,))

    def run(self, network: nn.Module) -> Any:
        """Run a network on it."""
        return network(*self.inputs, **self.named)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors in it."""
        return [each for each in tree_leaves((self.inputs, dict(self.named))) if isinstance(each, Tensor)]

    def changed(self, change: Any) -> Example:
        """Return one whose inputs are what `change` makes of them."""
        return Example(
            tuple(change(each) for each in self.inputs),
            {name: change(each) for name, each in self.named.items()},
        )


@dataclass(frozen=True)
class Analysis:
    """Findings of one run of a network.

    Attributes:
        states: names of buffers that a training changes, beside the statistics of norms.
    """

    tracer: Tracer
    solution: Solution
    blocks: BlocksSeen
    outputs: Any
    states: frozenset[str] = frozenset()


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a trained network, in eval mode.

    Raises:
        SpaceError: it is no module with layers to change, or cannot be copied.
    """
    if not isinstance(module, nn.Module):
        raise SpaceError(f"elastic: found {type(module).__name__}; give a torch.nn.Module")
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise SpaceError(f"{name}: a scripted module has no layers to change; give the module it was made of")
    if any(isinstance(each, UninitializedParameter) for each in module.parameters()):
        raise SpaceError(f"{name}: has parameters without a shape; run it once before it is made elastic")
    computed: dict[int, Any] = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf  # such as the weight that weight_norm computes
    }
    try:
        # Modules that keep what they have computed forget it when they are trained.
        return copy.deepcopy(module, computed).train().eval()
    except Exception as error:  # whatever a module may hold
        raise SpaceError(
            f"{name} cannot be copied ({type(error).__name__}: {error}); members are copies of it"
        ) from error


def analyse(network: nn.Module, example: Example, wanted: Wanted) -> Analysis:
    """Run a network and see what its tensors carry.

    Raises:
        SpaceError: it fails, depends on the values of its input, does not give the same twice, or runs other
            layers in training.
    """
    # Copies run, so that nothing that modules keep from a run is seen by another, or comes into a member.
    again = copy.deepcopy(network)
    outputs, repeated = _outputs(again, example), _outputs(again, example)
    network = copy.deepcopy(network)
    pairs = zip(tree_leaves(outputs), tree_leaves(repeated), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs if isinstance(one, Tensor)):
        raise SpaceError(
            f"{type(network).__name__}: gives another output each time it is run on the same input in eval "
            "mode; take the randomness out of its forward pass"
        )
    states = _check_training(again, example)
    tracer = Tracer()
    for name, parameter in network.named_parameters(remove_duplicate=False):
        tracer.know(name, parameter, carries=True)
    for name, buffer in network.named_buffers(remove_duplicate=False):
        tracer.know(name, buffer, carries=buffer.is_floating_point())
    for each in example.tensors:
        tracer.set(each, Facts((None,) * each.dim(), from_input=True))
    with (
        sizes_known(network),
        blocks_watched(tracer, network, wanted.exits) as blocks,
        following(tracer, network, rule_of, function_rule_of),
    ):
        traced = example.run(network)
    for each in tree_leaves(traced):
        tracer.fix(each, "is the network's output")
    tied = {id(tensor) for name, tensor in _tensors(network) if name in tracer.read}
    for name, tensor in _tensors(network):
        if id(tensor) not in tied and tensor.dim() > 0:
            for axis in tracer.tensors[name]:
                tracer.couplings.fix(axis, "is not used in the forward pass")
    for name in tracer.tensors:
        if wanted.excludes(name):
            for axis in tracer.tensors[name]:
                tracer.couplings.fix(axis, "is excluded")
    if wanted.plain_depth:
        blocks.join_plain(tracer.couplings)
    return Analysis(tracer, tracer.couplings.solve(), blocks, traced, states)


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def _check_training(network: nn.Module, example: Example) -> frozenset[str]:
    """See whether a network runs layers in training that it does not run in eval mode.

    Returns:
        The names of the buffers that training changes.
    """
    running: set[str] = set()
    hooks = [
        part.register_forward_pre_hook(lambda _, inputs, name=name: running.add(name))
        for name, part in network.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    ]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        example.run(network)
        known, before = frozenset(running), noted(network)
        network.train()
        for each in (example, example.changed(_twice)):  # norms do not train on a batch of one
            try:
                each.run(network)
            except Exception:  # whatever else a training would say itself
                continue
            break
    for hook in hooks:
        hook.remove()
    if more := sorted(running - known):
        raise SpaceError(
            f"{type(network).__name__}: runs layers in training that it does not run in eval mode: "
            f"{', '.join(more[:3])}; which channels they read is not known, so make it without them (such as "
            "aux_logits=False)"
        )
    return changed(network, before)


def _twice(each: Any) -> Any:
    return torch.cat([each, each]) if isinstance(each, Tensor) and each.dim() else each


@torch.no_grad()
def _outputs(network: nn.Module, example: Example) -> Any:
    try:
        return example.run(network)
    except Exception as error:  # whatever its forward pass may raise
        shapes = ", ".join(str(tuple(each.shape)) for each in example.tensors)
        raise SpaceError(
            f"{type(network).__name__}: the forward pass failed on inputs of {shapes}: "
            f"{type(error).__name__}: {error}; give example inputs that it takes"
        ) from error
