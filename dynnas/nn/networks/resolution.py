"""DRNet: each image at a resolution of its own (Zhu et al. 2021, arXiv:2106.02898).

A small predictor looks at the image at the lowest resolution and decides by Gumbel straight-through for one
of them, at which all of the network runs. Its weights are the same at each, the statistics of its batch norms
are not. In the authors' code scale and shift of a norm are each resolution's own, too: here they are shared,
as by all networks of a supernet. What may be used is bounded as for all gates
(`dynnas.training.algorithms.gates.budget`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.nn.config.network import ResolutionConfig
from dynnas.nn.context import PLAIN, Context, Contextual
from dynnas.nn.gates.estimators import Chooser
from dynnas.nn.gates.features import GateFeatures
from dynnas.nn.gates.gate import Deciding, Decision, one_of, record
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.layers.resize import Resize

WIDTHS = (8, 16)
"""Channels of the predictor's convolutions: few, because the smallest networks here cost about 1e5
multiply-adds.
"""


class ResolutionGate(Contextual):
    """Chooses the resolution of each image: two convolutions of stride 2, then gate features."""

    def __init__(self, config: ResolutionConfig) -> None:
        """Build from its config. A new gate has no preference: all resolutions are to be learned."""
        super().__init__()
        layers: list[nn.Module] = [Resize(config.sizes[-1], config.sizes[0])]
        channels = config.in_channels
        for width in WIDTHS:
            layers.append(ConvUnit(Static(ConvShape(channels, width, kernel=3, stride=2)), nn.ReLU()))
            channels = width
        start = [0.0] * len(config.sizes)
        self.look = nn.Sequential(*layers, GateFeatures(channels, start, config.target))
        self.chooser = Chooser()

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Map images (B, C, R, R) of the largest size to rows (B, sizes), which are 1 at the chosen size.

        As part of a supernet, in which it is a slot: what it decides is recorded.
        """
        context = context or self.context
        logits = self.look(x)
        if context[GateMode].choice == "cheapest":
            return torch.eye(logits.shape[1]).to(x)[:1].expand(len(x), -1)
        decision = one_of(logits, self.chooser, context)
        record(decision, context)
        return decision.weights


class ChosenResolution(Deciding):
    """A network at one of several resolutions: it maps images (B, C, R, R) of the largest to logits."""

    shares_norms = False
    branches = True

    def __init__(self, config: ResolutionConfig, gate: ResolutionGate, members: Sequence[nn.Module]) -> None:
        """`members` are the network at each size, from images (B, C, S, S) to logits (B, classes)."""
        super().__init__()
        self.gate = gate
        self.members = nn.ModuleList(members)
        self.resizes = nn.ModuleList(Resize(config.sizes[-1], size) for size in config.sizes)

    def whole(self, x: Tensor) -> Tensor:
        """Run the network at the largest resolution."""
        return self.members[-1](x)

    def logits(self, seen: Tensor) -> Tensor:
        """Return the logits (B, sizes) of images (B, C, R, R)."""
        return self.gate.look(seen)

    def choices(self) -> Tensor:
        """Return one decision for each size."""
        return torch.eye(len(self.members), dtype=torch.bool)

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Decide from images (B, C, R, R)."""
        return one_of(self.gate.look(seen), self.gate.chooser, context)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Run the network at every size, weighted by the decision."""
        return mixed([self.branch(x, size) for size in range(len(self.members))], decision.weights)

    def counted(self, x: Tensor, decision: Decision, context: Context) -> Tensor:
        """Run the network at every size: its statistics at a size are those of all images."""
        return self.masked(x, decision)

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Run the network at one size, by its index."""
        return self.members[alternative](self.resizes[alternative](x))


def mixed(outputs: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Mix the logits (B, classes) of every size by a choice (B, sizes): (B, classes)."""
    return (torch.stack(list(outputs), dim=1) * rows[:, :, None]).sum(1)


def sharing(module: nn.Module) -> nn.Module:
    """Return a copy that shares the parameters of `module` and has buffers of its own."""
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


def store_once(module: nn.Module) -> None:
    """Save and load the state of `module` with each tensor once, under its first name."""
    module.register_state_dict_post_hook(_drop_repeated)
    module.register_load_state_dict_pre_hook(_repeat)


def _repeated(module: nn.Module) -> dict[str, str]:
    """Yield the repeated names of every tensor that `module` has more than once, with the first name."""
    first: dict[int, str] = {}
    parameters = module.named_parameters(remove_duplicate=False)
    tensors = chain(parameters, module.named_buffers(remove_duplicate=False))
    names = {name: first.setdefault(id(tensor), name) for name, tensor in tensors}
    return {name: stored for name, stored in names.items() if name != stored}


def _drop_repeated(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in _repeated(module):
        state.pop(prefix + name, None)


def _repeat(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    for name, stored in _repeated(module).items():
        if prefix + stored in state:
            state[prefix + name] = state[prefix + stored]
