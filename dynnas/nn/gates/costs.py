"""The costs of gates' decisions: multiply-adds of every alternative, counted on what is really run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from dynnas.nn.config.network import RESOLUTION_SLOT, BlockConfig, NetworkConfig
from dynnas.nn.context import PLAIN, Context, supplied
from dynnas.nn.gates.gate import Deciding, Decision, Gated
from dynnas.nn.gates.state import Flow
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.maps import Maps
from dynnas.nn.layers.unfilled import unfilled
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import Network, build


@dataclass(frozen=True)
class GateCost:
    """The cost of a gated block, or of a network that runs at a chosen resolution.

    Attributes:
        slot: of the block, or of what chooses. alternatives: their names. target: share of `full` that is
            asked for.
        macs: multiply-adds of each alternative for one image, the gate's own included.
        full: those without the gate.
    """

    slot: str
    alternatives: tuple[str, ...]
    target: float
    macs: tuple[int, ...]
    full: int

    def image_macs(self, usage: Tensor) -> Tensor:
        """Return the multiply-adds (B,) of images that run the alternatives so often, (B, A).

        It is differentiable.
        """
        return usage.float() @ torch.tensor(self.macs, dtype=torch.float32, device=usage.device)


def gate_costs(config: NetworkConfig) -> tuple[GateCost, ...]:
    """Return the costs of every gated block in order, or of the choice of the resolution."""
    if config.choice is not None:
        macs, full = _resolution_macs(config)
        return (GateCost(RESOLUTION_SLOT, config.choice.alternatives, config.choice.target, macs, full),)
    found, size = [], [-(-side // config.stem.stride) for side in config.shape[1:]]
    for slot, block in config.blocks:
        if block.gated:
            names, macs, full = alternative_macs(block, *size)
            found.append(GateCost(slot, names, float(block.gate["target"]), macs, full))
        size = [-(-side // block.stride) for side in size]
    return tuple(found)


def gate_costs_of(
    module: nn.Module, call: Callable[[], object], context: Context = PLAIN
) -> tuple[GateCost, ...]:
    """Return the cost of every gated block inside any `module`, in the order in which `call` runs them.

    Args:
        call: runs the module on some input.
        context: is supplied to its layers; by default one in which nothing is left out.
    """
    found: list[GateCost] = []
    names = {part: name for name, part in module.named_modules() if isinstance(part, Gated)}

    def note(gated: nn.Module, inputs: tuple[Tensor | Flow, ...]) -> None:
        assert isinstance(gated, Gated)
        x = inputs[0].x if isinstance(inputs[0], Flow) else inputs[0]
        assert isinstance(x, Tensor)
        if gated.given:
            alternatives, macs, full = _macs_of_given(gated, x)
        else:
            alternatives, macs, full = alternative_macs(gated.config, *x.shape[-2:])
        found.append(GateCost(names[gated], alternatives, float(gated.config.gate["target"]), macs, full))

    handles = [gated.register_forward_pre_hook(note) for gated in names]
    try:
        with supplied(module, context):
            call()
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found)


@lru_cache(maxsize=10_000)
def alternative_macs(
    config: BlockConfig, height: int, width: int | None = None
) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Return names and multiply-adds of a gated block's alternatives, and those of the block alone.

    Args:
        config: of the block. height, width: of its input, square if there is no width.
    """
    with unfilled():
        gated = build(config).eval()
        settle(gated)
        x = torch.zeros(1, config.in_channels, height, width or height)
    assert isinstance(gated, Gated)
    return gated.alternatives(config), _macs_of_each(gated, x), count_macs(gated.block, x)[1]


def _macs_of_given(gated: Gated, x: Tensor) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Return what `alternative_macs` does for a gate around a module that no config describes."""
    copied = copy.deepcopy(gated).to("meta").eval()
    settle(copied)
    blank = torch.zeros(1, *x.shape[1:], device="meta")
    return gated.alternatives(gated.config), _macs_of_each(copied, blank), count_macs(copied.block, blank)[1]


@lru_cache(maxsize=10_000)
def _resolution_macs(config: NetworkConfig) -> tuple[tuple[int, ...], int]:
    """Return the multiply-adds of a network at each resolution, and at the largest without the predictor."""
    with unfilled():
        chosen = Network(config).eval().chosen
        x = torch.zeros(1, *config.shape)
    assert chosen is not None
    settle(chosen)
    return _macs_of_each(chosen, x), count_macs(chosen.members[-1], x)[1]


def _macs_of_each(gated: Deciding, x: Tensor) -> tuple[int, ...]:
    """Return the multiply-adds of each alternative for one image, an input on the meta device."""
    # What can be chosen is read, so it must not be on the meta device.
    return tuple(
        count_macs(_Alternative(gated, index, choice), x)[1] for index, choice in enumerate(gated.choices())
    )


class _Alternative(nn.Module):
    """The module that images of one choice run."""

    def __init__(self, gated: Deciding, index: int, choice: Tensor) -> None:
        super().__init__()
        self.gated, self.index, self.choice = gated, index, choice

    def forward(self, x: Tensor) -> Tensor | Maps:
        if self.gated.branches:
            told = self.gated.votes(Flow(x))[1]
            return self.gated.alternative(told, self.index).x
        seen, _ = self.gated.sees(x, Flow(x))
        usage = self.gated.decide(seen).usage
        weights = self.choice[None].to(x)
        return self.gated.alone(x, self.choice, Decision(weights, usage))


def total_macs(costs: Sequence[GateCost], decisions: Sequence[Decision]) -> Tensor:
    """Return the multiply-adds (B,) of each image in all gated blocks; differentiable."""
    return torch.stack(
        [cost.image_macs(decision.usage) for cost, decision in zip(costs, decisions, strict=True)]
    ).sum(0)
