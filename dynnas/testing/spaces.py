"""The conformance suite of spaces: the rules for every class that can be a supernet."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.runtimes.fusing import tensors_in
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet


@dataclass(frozen=True)
class SpaceCheck:
    """The result of a check.

    Attributes:
        architectures: the networks that were compared.
        shapes: the shape of every shared tensor, by its name.
    """

    architectures: tuple[Architecture, ...]
    shapes: Mapping[str, tuple[int, ...]]


def check_space(space: Space, *inputs: Any, networks: int = 10, seed: int = 0) -> SpaceCheck:
    """Check that the class of a space can be a supernet.

    The smallest, the largest and some drawn networks are built. For each must hold: the class builds the same
    network for the same values; what runs on shared weights equals bit for bit what is extracted, and learns
    the same; the extracted `state_dict` loads into an ordinary network of the class, which computes the same.
    Each pattern that a module declares in `elastic` must be the name of a tensor of some network.

    Args:
        space: what `Space.of` made.
        inputs: example inputs of the networks, with more than one row.
        networks: how many networks are compared.
        seed: draws architectures and weights.

    Raises:
        SpaceError: no rule says how a tensor is shared, or a network cannot be built.
        AssertionError: a network breaks the contract. The message names its values and what is wrong.
    """
    supernet = Supernet(space, seed=seed)
    rng = random.Random(seed)
    drawn = (sample(space, rng) for _ in range(10 * networks))
    architectures = tuple(dict.fromkeys([smallest(space), largest(space), *drawn]))[: max(networks, 2)]
    patterns: dict[tuple[str, str], bool] = {}
    for architecture in architectures:
        with torch.random.fork_rng(devices=[]):
            _check_member(space, supernet, architecture, inputs)
        for declared, matches in _patterns(space.build(architecture)):
            patterns[declared] = patterns.get(declared, False) or matches
    for (owner, pattern), found in patterns.items():
        if not found:
            raise AssertionError(
                f"{space.name}: {owner}.elastic has the pattern {pattern!r}, and no network has a tensor "
                "of that name; correct or drop it"
            )
    shapes = {name.rpartition(".")[2]: tuple(tensor.shape) for name, tensor in supernet.state_dict().items()}
    return SpaceCheck(architectures, shapes)


def _check_member(
    space: Space, supernet: Supernet, architecture: Architecture, inputs: tuple[Any, ...]
) -> None:
    values = ", ".join(f"{name}={value!r}" for name, value in architecture.items())
    where = f"{space.name}({values})"
    network = supernet.train().extract(architecture)
    again = space.build(architecture)
    ours, theirs = ({n: t.shape for n, t in module.state_dict().items()} for module in (network, again))
    if ours != theirs:
        names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        raise AssertionError(f"{where}: built twice, it has other tensors or shapes: {', '.join(names)}")
    supernet.zero_grad(set_to_none=True)
    elastic, extracted = (
        _seeded(module) for module in (lambda: supernet(architecture, *inputs), lambda: network(*inputs))
    )
    _assert_equal(where, "in training mode", elastic, extracted)
    _assert_same_gradients(where, supernet, network, elastic, extracted)
    supernet.eval()
    with torch.no_grad():
        _load(where, again, network)
        _assert_equal(
            where,
            "in eval mode, with the state dict loaded into a network of the class",
            _seeded(lambda: network.eval()(*inputs)),
            _seeded(lambda: again.eval()(*inputs)),
        )


def _seeded(run: Any) -> list[Tensor]:
    """Return the tensors among the outputs of a run, with the draws of seed 0."""
    torch.manual_seed(0)
    return list(tensors_in(run()))


def _assert_equal(where: str, when: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
    if len(ours) != len(theirs) or any(a.shape != b.shape for a, b in zip(ours, theirs, strict=False)):
        raise AssertionError(f"{where}: {when}, outputs differ in number or shape")
    if not ours:
        raise AssertionError(f"{where}: the outputs hold no tensor")
    for a, b in zip(ours, theirs, strict=True):
        if not torch.equal(a, b):
            most = float((a - b).detach().abs().max())
            raise AssertionError(
                f"{where}: {when}, outputs differ by up to {most:.3g}. A network must compute by its "
                "parameters, its buffers and its inputs alone, and draw by torch's generator"
            )


def _assert_same_gradients(
    where: str, supernet: Supernet, network: nn.Module, elastic: list[Tensor], extracted: list[Tensor]
) -> None:
    """Check that each weight of the network and the shared one that it is cut from learn the same."""
    for outputs in (elastic, extracted):
        differentiable = [output for output in outputs if output.requires_grad]
        if not differentiable:
            raise AssertionError(f"{where}: no gradient reaches the weights")
        generator = torch.Generator().manual_seed(0)
        towards = [torch.randn(output.shape, generator=generator).to(output) for output in differentiable]
        torch.autograd.backward(differentiable, towards)
    shared, own = (
        torch.cat([p.grad.double().flatten() for p in module.parameters() if p.grad is not None])
        for module in (supernet, network)
    )
    scale = max(1.0, float(own.abs().sum()))
    if abs(float(shared.sum() - own.sum())) > 1e-5 * scale:
        raise AssertionError(
            f"{where}: gradients of the shared tensors are not those of the extracted network"
        )


def _load(where: str, plain: nn.Module, network: nn.Module) -> None:
    try:
        plain.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise AssertionError(f"{where}: the extracted state dict does not load into it: {error}") from error


def _patterns(network: nn.Module) -> Iterator[tuple[tuple[str, str], bool]]:
    """Yield every pattern of a declaration, with its class, and whether it is the name of a tensor."""
    names = [*dict(network.named_parameters(remove_duplicate=False)), *dict(network.named_buffers())]
    for prefix, module in network.named_modules():
        rules = getattr(module, "elastic", None)
        if isinstance(rules, Mapping):
            start = f"{prefix}." if prefix else ""
            own = [name.removeprefix(start) for name in names if name.startswith(start)]
            for pattern in rules:
                yield (type(module).__name__, pattern), any(fnmatchcase(name, pattern) for name in own)
