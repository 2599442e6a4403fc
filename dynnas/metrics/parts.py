"""The named parts of a network of any class, with the costs of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.nn.context import PLAIN, supplied
from dynnas.nn.conv2d import Conv2d
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.network import Network
from dynnas.runtimes.plain import PlainNetwork, blank_images


@dataclass(frozen=True)
class Part:
    """One part, in the order in which parts first run.

    Attributes:
        name: by which its class names it, such as `blocks.0`.
        kind: its class.
        macs: multiply-adds for one image, over all of its runs. params: numbers that it stores.
        channels: of what it gives, for tokens (B, N, C) their last axis; 0 if it has none.
        resolution: of the map, else 1.
        dynamic: whether kernels in it, or what it runs, depend on the input.
        exit: whether images may leave behind it.
    """

    name: str
    kind: str
    macs: int
    params: int
    channels: int
    resolution: int
    dynamic: bool = False
    exit: bool = False


@torch.no_grad()
def parts_of(network: Network | PlainNetwork) -> tuple[Part, ...]:
    """Return the parts of `network`: its children, and those of its lists and sequences."""
    assert isinstance(network, PlainNetwork)
    found: dict[str, Part] = {}
    exits = {
        f"{name}.exits.{key}"
        for name, layer in network.module.named_modules()
        if isinstance(layer, EarlyExits)
        for key in [*layer.exits][:-1]
    }

    def note(name: str, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        macs = sum(count_macs(part, x)[1] for x in inputs[:1] if isinstance(x, Tensor))
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        before = found.get(name)
        found[name] = Part(
            name=name,
            kind=type(part).__name__,
            macs=macs + (before.macs if before else 0),
            params=sum(parameter.numel() for parameter in part.parameters()),
            channels=shape[-1 if len(shape) == 3 else 1] if len(shape) > 1 else 0,
            resolution=shape[-1] if len(shape) == 4 else 1,
            dynamic=any(getattr(each, "input_dependent", False) for each in part.modules()),
            exit=name in exits,
        )

    runs: list[tuple[str, nn.Module, tuple[Any, ...], Any]] = []
    hooks = [
        part.register_forward_hook(
            lambda module, inputs, output, name=name: runs.append((name, module, inputs, output))
        )
        for name, part in _named(network.module)
    ]
    try:
        with supplied(network, PLAIN):  # nothing is left out
            network.eval()(blank_images(network.config))
    finally:
        for hook in hooks:
            hook.remove()
    with supplied(network, PLAIN):
        for run in runs:
            note(*run)
    return tuple(found.values())


def _named(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts inside a module with their names: what its lists, sequences and exits are made of."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict | EarlyExits) or (
            isinstance(child, nn.Sequential) and (not prefix or _holds_blocks(child))
        ):
            yield from _named(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _holds_blocks(sequence: nn.Sequential) -> bool:
    """Return whether a part of a sequence is made of parts itself."""
    blocks = (part for part in sequence if not isinstance(part, Conv2d))
    return any(next(part.children(), None) is not None for part in blocks)
