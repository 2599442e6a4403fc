"""What a learned gate is held against: what it uses in the mean, said of every image alike or at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.data.dataset import Dataset
from dynnas.metrics.accuracy import predict
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.network import Network

TILES = "positions"
"""The family whose gates decide of every tile whether it is run."""

HALT = "halt"
"""The family whose blocks run only after those before them."""

SETS = ("channels", "moe")
"""Families whose gates choose as many members for every image."""


@dataclass(frozen=True)
class Use:
    """What a gated block ran of some images.

    Attributes:
        gate: its family, or the slot of what is no block.
        members: (D,) float64, how often each member of the gate's domain was run.
        alternatives: (A,) float64, how often each alternative was. macs: multiply-adds of each.
    """

    gate: str
    members: Tensor
    alternatives: Tensor
    macs: tuple[int, ...]

    def drawn(self) -> Tensor:
        """How often each logit is to be the largest, so that draws run as much of everything."""
        return torch.stack([1 - self.members, self.members], dim=1) if self.gate == TILES else self.members

    def constant(self, alternative: int) -> Tensor:
        """The same for a gate that gives every image one alternative, of its most frequent members."""
        if self.gate == TILES:
            run = torch.zeros_like(self.members)
            run[self.members.argsort(descending=True)[:alternative]] = 1
            return torch.stack([1 - run, run], dim=1)
        if self.gate not in SETS:
            return torch.eye(len(self.members), dtype=self.members.dtype)[alternative]
        return self.members


def gate_uses(network: Network, dataset: Dataset) -> dict[str, Use]:
    """By slot, on the search images; with every gate's decision as it is, exits aside."""
    _, decided, _ = predict(network, dataset, dataset.search.images)
    families = {slot: block.gate.name for slot, block in network.config.gated}
    found = {}
    for gate, decision in zip(cost(network.config).gates, decided, strict=True):
        members, alternatives = decision.choice.double().mean(0), decision.usage.double().mean(0)
        found[gate.slot] = Use(families.get(gate.slot, gate.slot), members, alternatives, gate.macs)
    return found


def constant_alternatives(uses: Mapping[str, Use]) -> dict[str, int]:
    """An alternative for each block, so that together they cost what the gates cost in the mean.

    Of all combinations that come as near to it as any, within a hundredth of what the blocks can cost, the
    one whose alternatives are the most frequent.
    """
    wanted = sum(float(use.alternatives @ _macs(use)) for use in uses.values())
    macs, likely = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for use in uses.values():
        log = use.alternatives.clamp(min=1e-4).log()
        macs = (macs[:, None] + _macs(use)).flatten()
        likely = (likely[:, None] + log).flatten()
    off = (macs - wanted).abs()
    near = off <= off.min() + 0.01 * macs.max()
    best = int(torch.where(near, likely, -torch.inf).argmax())
    found = {}
    for slot, use in reversed(uses.items()):
        best, found[slot] = divmod(best, len(use.macs))
    return {slot: found[slot] for slot in uses}


def held_shares(uses: Mapping[str, Use], random: bool) -> dict[str, Tensor]:
    """For `hold_gates`: draws of equal use, or a constant of equal multiply-adds."""
    if random:
        return {slot: use.drawn() for slot, use in uses.items()}
    chosen = _in_order(uses, constant_alternatives(uses))
    return {slot: use.constant(chosen[slot]) for slot, use in uses.items()}


def _in_order(uses: Mapping[str, Use], chosen: Mapping[str, int]) -> dict[str, int]:
    """Of runs of blocks that halt, which are alike, the first ones are run."""
    found = dict(chosen)
    for stage in dict.fromkeys(slot.partition(".")[0] for slot in uses):
        slots = [slot for slot in uses if slot.startswith(f"{stage}.") and uses[slot].gate == HALT]
        found |= zip(slots, sorted((chosen[slot] for slot in slots), reverse=True), strict=True)
    return found


def _macs(use: Use) -> Tensor:
    return torch.tensor(use.macs, dtype=torch.float64)
