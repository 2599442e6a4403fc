"""Gates around the blocks of a trained network, begun open: every image runs the block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dynnas.nn.blocks_by_name import Skippable
from dynnas.nn.gates.gate import OPEN_BIAS
from dynnas.nn.slicing import Rule, indices

UNGATED = "none"
"""The value of a block that has no gate."""

_READS = "skip.reduce.conv.weight"
"""The tensor of a gate that reads the channels of its block's input, on axis 1."""


@dataclass(frozen=True)
class GateOf:
    """A choice of the share of a block's multiply-adds that images are to use, in the mean.

    Attributes:
        block: name of the block. channels: of its input.
    """

    block: str
    channels: int

    @staticmethod
    def value(share: float) -> str:
        """Return the value by which a gate is chosen that is to use this share of its block."""
        return f"skip {share:g}"

    @staticmethod
    def share(value: str) -> float:
        """Return the share that a value stands for."""
        return float(value.removeprefix("skip "))

    @property
    def key(self) -> str:
        """The name under which the channels that it reads are followed."""
        return f"gate:{self.block}"


@torch.no_grad()
def open_gate(block: nn.Module, channels: int, seed: int) -> nn.Module:
    """Return the gate of a block that no image passes by."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate: nn.Module = Skippable(block, channels).gate
    for name, tensor in gate.named_parameters():
        if name.endswith("expand.weight"):
            tensor.zero_()
        elif name.endswith("expand.bias"):
            tensor.copy_(torch.tensor([0.0, OPEN_BIAS]))
    return gate


def gated(block: nn.Module, channels: int, target: float) -> Skippable:
    """Return a block behind a gate of its own, whose tensors have no values yet."""
    made = Skippable(block, channels, target)
    made.gate.eval()
    return made.train(block.training)


def gate_rules(kept: np.ndarray | None) -> Mapping[str, Rule]:
    """Return how the tensors of a gate are sliced that reads these channels."""
    return {} if kept is None else {_READS: indices(tuple(kept.tolist()), 1)}
