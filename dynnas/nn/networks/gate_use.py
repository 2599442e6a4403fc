"""Statistics of the gates: how much of a gated network images run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.cost import Cost


@dataclass(frozen=True)
class GateUse:
    """The share of a gated network that images run, on average.

    Attributes:
        image_macs: multiply-adds of each image, by the exit that it leaves by and what gates say of it.
        shares: for each gated block's slot, how often each alternative is run, by its name, among the images
            that get there (0..1).
        policies: how many different ways images take: by exit and all decisions before it.
    """

    image_macs: tuple[int, ...]
    shares: Mapping[str, Mapping[str, float]]
    policies: int

    @staticmethod
    def of(size: Cost, exits: Tensor, decided: Sequence[Decision]) -> GateUse:
        """Return the statistics of images that leave by `exits` (N,), from the decisions of each gate."""
        shares: dict[str, dict[str, float]] = {}
        calls = Counter(gate.slot for gate in size.gates)  # a layer may be called for each step of a sequence
        signs = [exits[:, None]]
        for gate, stretch, decision in zip(size.gates, size.stretches, decided, strict=True):
            there = exits >= stretch
            mean = decision.usage[there].double().mean(0).nan_to_num(0.0)  # no image may get there
            own = shares.setdefault(gate.slot, dict.fromkeys(gate.alternatives, 0.0))
            for name, share in zip(gate.alternatives, mean.tolist(), strict=True):
                own[name] += share / calls[gate.slot]
            signs.append((decision.choice & there[:, None]).to(exits.dtype))
        macs = size.image_macs(exits, [decision.usage for decision in decided])
        policies = len(torch.cat(signs, dim=1).unique(dim=0))
        return GateUse(tuple(macs.round().long().tolist()), shares, policies)
