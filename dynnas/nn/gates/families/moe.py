"""Sparse mixture of experts: each image runs the best few (Shazeer et al. 2017, arXiv:1701.06538)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.estimators import draw_normal
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.features import GateFeatures
from dynnas.nn.gates.gate import HIDDEN, Decision, Gated, hidden_channels
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.gates.state import Carried, Flow
from dynnas.nn.layers.hidden import ChosenHidden, MaskedHidden
from dynnas.nn.layers.initial import linear
from dynnas.space.knob import Knob, whole

LEAST_SPREAD = 0.01
"""Minimum standard deviation of the noise, as in the authors' code: the load divides by it."""

MOST_SETS = 8
"""Maximum number of sets of experts in a graph with a branch for each: every branch holds the weights of its
experts.
"""

LEAST = 1e-6
"""Minimum weight of an expert that was chosen: 0 would mean that it was not."""


class NoisyFeatures(GateFeatures):
    """Gate features with the standard deviation of the noise that is added to them in training."""

    def __init__(self, in_channels: int, start: Sequence[float], target: float) -> None:
        """`start` are the logits to begin with."""
        super().__init__(in_channels, start, target)
        self.spread = linear(in_channels, len(start))

    def noisy(self, x: Tensor, logits: Tensor, mode: GateMode) -> tuple[Tensor, Tensor]:
        """Return noisy logits (B, E) of the block's input, and the standard deviation of the noise."""
        spread = F.softplus(self.spread(x.mean((2, 3)))) + LEAST_SPREAD
        return logits + mode.sample(draw_normal, logits) * spread, spread


@register_gate("moe")
class Experts(Gated):
    """Splits the block's hidden channels into E experts; an image runs the k that its router ranks highest.

    An expert is a convolutional block of its own with every E-th hidden channel, from the input's channels
    to the output's: y = sum_i G(x)_i E_i(x) (equation 1). So a block of E experts is a plain one of the same
    tensors if all are run and count alike, a narrower block has the same experts made narrower, and `expand`
    says how large all of them are together. `gate_experts` is E, and k the target's share of it, so that
    what an image costs is known beforehand. Logits are noisy in training only; the sum of G is k instead of
    1, so that what is run counts 1 in the mean. Images of the same experts run together. A graph for one
    image has a branch for each set of k experts, if there are no more than `MOST_SETS`; else it computes
    all of them and masks.
    """

    name = "moe"
    capacity = 80
    paper = "Shazeer et al. 2017, arXiv:1701.06538"
    requires = (*Gated.requires, HIDDEN)
    reads_others = False
    knobs = (
        Knob("experts", whole(2, 64), "experts that the block's inner channels are shared out to", default=4),
    )
    shares_norms = True
    branches = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the block has no hidden channels, or the config does not say how many experts.
        """
        experts, kept = numbers(config)
        super().__init__(config, start=(0.0,) * experts, features=NoisyFeatures)
        self.hidden, self.experts, self.kept = hidden_channels(config), experts, kept
        self.sets = tuple(combinations(range(experts), kept)) if self.leaves_out(config) else ()
        self.known = Carried("moe_logits", experts)

    @classmethod
    def leaves_out(cls, config: BlockConfig) -> bool:
        """Return whether there are few enough sets of experts for a branch each."""
        return comb(*numbers(config)) <= MOST_SETS

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives.

        Experts differ by one channel where E does not divide the hidden channels.
        """
        experts, kept = numbers(config)
        least, most = _larger(hidden_channels(config), experts, kept)
        channels = kept * (hidden_channels(config) // experts)
        return (*(f"{channels + larger} channels" for larger in range(least, most + 1)), "all")

    def choices(self) -> Tensor:
        """Return a decision for the first experts, which are the larger ones."""
        least, most = _larger(self.hidden, self.experts, self.kept)
        places = torch.arange(self.experts)
        some = [
            (places < larger) | (places >= self.experts - self.kept + larger)
            for larger in range(least, most + 1)
        ]
        return torch.stack([*some, torch.ones_like(some[0])])

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Decide from the block's input (B, C, H, W)."""
        logits = self.gate(seen)
        loads = None
        if self.training and isinstance(features := self.gate[0], NoisyFeatures):  # not if it is held
            noisy, spread = features.noisy(seen, logits, context[GateMode])
            weights = best(noisy, self.kept)
            loads = torch.stack([weights, load(logits, noisy, spread, self.kept)], dim=1)
        else:
            weights = best(logits, self.kept)
        least, most = _larger(self.hidden, self.experts, self.kept)
        larger = (weights[:, : self.hidden % self.experts] > 0).sum(1)
        usage = F.one_hot(larger - least, most - least + 2).to(weights.dtype)
        return Decision(self.kept * weights, usage, loads=loads)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Compute all experts, and set those that are not chosen to zero."""
        return self.block(x, MaskedHidden(self._of_channels(decision.weights), counted))

    def alone(self, x: Tensor, choice: Tensor, decision: Decision) -> Tensor:
        """Run a block of the chosen experts' channels."""
        channels = self._of_channels(choice[None])[0].nonzero().flatten().to(x.device)
        counted = self._of_channels(decision.weights)[:, channels]
        return self.block(x, ChosenHidden(channels, self.hidden, counted))

    def ways(self) -> int:
        """Return the number of sets of experts, each of which is a branch."""
        return len(self.sets)

    def branches_on(self, flow: Flow) -> bool:
        """Return whether there is a choice: not where all experts are run."""
        return len(self.sets) > 1

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        """Return the logits of the sets: the sum of their experts' logits."""
        assert isinstance(flow.x, Tensor)
        logits = self.gate(flow.x)
        members = [[float(expert in own) for own in self.sets] for expert in range(self.experts)]
        return logits @ logits.new_tensor(members), flow.with_values({self.known.name: logits})

    def alternative(self, flow: Flow, index: int) -> Flow:
        """Run one set of experts, weighted by their logits."""
        x, own, logits = flow.x, self.sets[index], flow.value(self.known)
        assert isinstance(x, Tensor)
        assert logits is not None
        channels = [channel for channel in range(self.hidden) if channel % self.experts in own]
        counted = None
        if self.kept > 1:
            shares = self.kept * torch.softmax(logits[:, own], dim=1)
            counted = shares[:, [own.index(channel % self.experts) for channel in channels]]
        chosen = torch.tensor(channels, device=x.device)
        return flow.hand_on(self.block(x, ChosenHidden(chosen, self.hidden, counted)))

    def _of_channels(self, values: Tensor) -> Tensor:
        """Spread weights (B, experts) to (B, hidden)."""
        return values[:, torch.arange(self.hidden, device=values.device) % self.experts]


def numbers(config: BlockConfig) -> tuple[int, int]:
    """Return the number of experts, and how many of them an image runs.

    Raises:
        SpaceError: the block has no hidden channels, or the config does not say how many experts.
    """
    hidden = hidden_channels(config)
    experts = min(int(config.gate["experts"]), hidden)
    return experts, max(1, round(float(config.gate["target"]) * experts))


def _larger(hidden: int, experts: int, kept: int) -> tuple[int, int]:
    """Return the least and the most larger experts (by one channel) that `kept` experts can hold."""
    more = hidden % experts
    return max(0, kept - (experts - more)), min(kept, more)


def best(logits: Tensor, kept: int) -> Tensor:
    """Return the softmax of the `kept` largest of each row of (B, E), the others 0 (equations 3 and 5).

    A single one is 1 whatever its logit, so that it would not learn: its gradient is that of its softmax
    among all (as in switch transformers: Fedus et al. 2021, arXiv:2101.03961).
    """
    if is_recorded():
        values, places = logits.topk(kept, dim=1)
    else:  # as in graphs, the first counts of logits that are equal
        values, places = (found[:, :kept] for found in logits.sort(dim=1, descending=True, stable=True))
    shares = torch.softmax(values, dim=1).clamp(min=LEAST)
    if kept == 1:
        among_all = torch.softmax(logits, dim=1).gather(1, places)
        shares = shares + (among_all - among_all.detach())
    return torch.zeros_like(logits).scatter(1, places, shares)


def load(logits: Tensor, noisy: Tensor, spread: Tensor, kept: int) -> Tensor:
    """Return what each image adds to the load that experts may expect, (B, E): P(x, i) (equations 8 and 9).

    P is the probability that expert i is among the best if its noise alone is drawn again. It is smooth in
    the logits, where being chosen is not.

    Args:
        logits: without noise, (B, E). noisy: with it. spread: standard deviation of the noise.
        kept: how many experts an image runs.
    """
    if kept == logits.shape[1]:
        return torch.ones_like(logits)
    best_ones = noisy.topk(kept + 1, dim=1).values
    last_in, first_out = best_ones[:, kept - 1 : kept], best_ones[:, kept:]
    to_beat = torch.where(noisy >= last_in, first_out, last_in)
    return torch.special.ndtr((logits - to_beat) / spread)
