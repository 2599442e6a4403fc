"""FBS: which hidden channels a block computes, for each image (Gao et al. 2019, arXiv:1810.05331)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.estimators import top_k
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.gate import HIDDEN, Decision, Gated, hidden_channels
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.hidden import ChosenHidden, MaskedHidden
from dynnas.nn.layers.layers import ConvUnit

START = 1.0
"""Initial saliency: every channel counts alike in a new gate (section 3.2)."""


class AveragedHidden(MaskedHidden):
    """Hidden channels that also record their mean over positions: (B, hidden)."""

    held: Tensor | None = None

    def out_of(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        self.held = y.mean((2, 3))
        return super().out_of(unit, y, route)


@dataclass(frozen=True)
class KeptChannels:
    """The channels that a masked block kept, as its trace records them.

    Attributes:
        weights: what each channel counts, (B, hidden). held: what it holds, in the mean over positions.
    """

    weights: Tensor
    held: Tensor


@register_gate("channels")
class ChannelSet(Gated):
    """Runs the hidden channels of the largest predicted saliency, boosted by it.

    The target is the share of the hidden channels that are kept, the same number for every image, so that
    images differ in what they run but not in what it costs. The saliencies are a softplus of the logits (the
    paper has a ReLU, which may leave fewer channels than were asked for), of mean 1 over all channels.

    Read off the policy network's embedding (`gate_reads`) it is DeepMoE (Wang et al. 2019, arXiv:1806.01531)
    but for how many channels are kept: there those of positive ReLU(W e), as many as a penalty on their sum
    leaves; here the best, as many as the budget says.

    On a processor it does not pay (`tests/bench/gates.py`): weights gathered for an image are no constants,
    which no runtime can lay out beforehand. At 40% fewer multiply-adds, a network that gathers took 1.3 to
    1.8 times as long as one without gates in torch, and 1.6 to 4.6 times in ONNX Runtime. So graphs compute
    all channels and mask; torch gathers.
    """

    name = "channels"
    capacity = 70
    paper = "Gao et al. 2019, arXiv:1810.05331"
    requires = (*Gated.requires, HIDDEN)
    shares_norms = True
    branches = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the block has no hidden channels.
        """
        hidden = hidden_channels(config)
        super().__init__(config, start=(START,) * hidden)
        self.hidden = hidden
        self.kept = max(1, round(float(config.gate["target"]) * hidden))

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return a single alternative: every image keeps as many channels."""
        return ("kept", "all")

    def choices(self) -> Tensor:
        """Return a decision for the first channels, which stand for any others."""
        places = torch.arange(self.hidden)
        return torch.stack([places < self.kept, places < self.hidden])

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Decide from what the gate looks at."""
        saliency = F.softplus(self.gate(seen))
        weights = top_k(saliency, self.kept) * (self.hidden / saliency.sum(1, keepdim=True))
        every = torch.ones_like(weights[:, :1])
        return Decision(weights, torch.cat([every, 0 * every], dim=1))

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Compute all channels, and set those that are not kept to zero."""
        return self.block(x, MaskedHidden(decision.weights, counted))

    def execute(self, x: Tensor, decision: Decision, context: Context) -> Tensor:
        """Execute as the context says; a trace also records the means of the channels."""
        trace = None if is_recorded() else context.trace
        masked = context[GateMode].execution == "masked"
        if trace is None or not trace.wants(KeptChannels) or not masked:
            return super().execute(x, decision, context)
        hidden = AveragedHidden(decision.weights)
        y: Tensor = self.block(x, hidden)
        assert hidden.held is not None
        trace.record(KeptChannels(decision.weights, hidden.held))
        return y

    def alone(self, x: Tensor, choice: Tensor, decision: Decision) -> Tensor:
        """Run the block with the kept channels alone."""
        channels = choice.nonzero().flatten().to(x.device)
        return self.block(x, ChosenHidden(channels, self.hidden, decision.weights[:, channels]))
