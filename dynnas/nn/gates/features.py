"""The features that gates look at, and the logits that they read off them.

A gate's own network is in two parts: `sees(x, flow)` says what is looked at, for a block's input and the
values beside it, and `forward` makes logits of that. One gate serves networks of several targets, so what it
says must depend on the target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.network import RECURRENT_UNITS, BlockConfig
from dynnas.nn.gates.policy import EMBEDDING, embedding
from dynnas.nn.gates.recurrent import STATE, lstm_step
from dynnas.nn.gates.state import Beside, Carried, Flow
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import pointwise
from dynnas.nn.layers.initial import linear
from dynnas.nn.layers.layers import ConvUnit, flat, of_one_pixel

START_SPREAD = 0.5
"""Approximate standard deviation over images of a new gate's logits."""

HIDDEN_SPREAD = 0.15
"""Approximate standard deviation over images of a new LSTM's hidden units."""


def last_layer(inputs: int, start: Sequence[float]) -> nn.Linear:
    """Return the last layer: from `inputs` to logits that start near `start`."""
    layer = linear(inputs, len(start))
    with torch.no_grad():
        layer.weight.normal_(std=START_SPREAD * inputs**-0.5)
        layer.bias.copy_(torch.tensor(start))
    return layer


class Features(nn.Module):
    """The base of all gate features: logits (B, L), told the target."""

    def __init__(self, target: float) -> None:
        """`target` is the share of the block's multiply-adds that is asked for."""
        super().__init__()
        self.target = target
        self.expand: nn.Linear
        self.logits_by_target: nn.Parameter | None

    def sees(self, x: Tensor, flow: Flow) -> tuple[Tensor, Beside]:
        """Return what the gate looks at, the block's input (B, C, H, W), and what it hands on.

        Args:
            x: the block's input, or of a gate behind its block, its output. flow: what is beside it.
        """
        return x, {}

    def logits(self, v: Tensor) -> Tensor:
        """Map (B, ..., inputs of the last layer) to (B, ..., L)."""
        if self.logits_by_target is None:
            return self.expand(v)
        return self.expand(v) + (1 - self.target) * self.logits_by_target

    @torch.no_grad()
    def settle(self) -> None:
        """Move what the target adds into the biases, for good."""
        if self.logits_by_target is not None:
            self.expand.bias.add_((1 - self.target) * self.logits_by_target)
            self.logits_by_target = None


class GateFeatures(Features):
    """FC(ReLU(norm(FC(GAP(block input))))), both layers also told the target: logits (B, L).

    As squeeze-and-excitation, with max(4, C // 4) hidden units, and a batch norm over the images: pooled
    features are much alike, and a gate that hardly sees a difference learns to say the same of every image.
    """

    def __init__(
        self, in_channels: int, start: Sequence[float], target: float, hidden: int | None = None
    ) -> None:
        """Build it for inputs of `in_channels` channels; new logits are near `start`."""
        super().__init__(target)
        hidden = hidden or max(4, in_channels // 4)
        self.reduce: nn.Module = ConvUnit(Static(pointwise(in_channels, hidden)), nn.Identity())
        self.expand = last_layer(hidden, start)
        self.hidden_by_target: nn.Parameter | None = nn.Parameter(torch.zeros(hidden))
        self.logits_by_target = nn.Parameter(torch.zeros(len(start)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, L)."""
        return self.logits(F.relu(self.pooled(x)))

    def pooled(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to hidden units (B, hidden), before their activation."""
        # Not as a mean: ONNX Runtime pools in the layout of its convolutions.
        return self.told(flat(self.reduce(F.adaptive_avg_pool2d(x, 1))))

    def told(self, v: Tensor) -> Tensor:
        """Return hidden units (B, ..., hidden) with what the target adds to them."""
        return v if self.hidden_by_target is None else v + (1 - self.target) * self.hidden_by_target

    @torch.no_grad()
    def settle(self) -> None:
        """Move what the target adds into the biases, for good.

        Without its norm, the first layer is linear.
        """
        super().settle()
        if self.hidden_by_target is None:
            return
        assert isinstance(self.reduce, ConvUnit)
        norm, conv = self.reduce.norm, self.reduce.conv
        bias = norm.bias if isinstance(norm, nn.BatchNorm2d) else conv.bias
        assert bias is not None
        bias.add_((1 - self.target) * self.hidden_by_target)
        self.hidden_by_target = None
        self.reduce = of_one_pixel(self.reduce)


class PolicyFeatures(Features):
    """Computes W e: logits of the image embedding that all such gates share (DeepMoE, section 3.2)."""

    def __init__(self, width: int, start: Sequence[float], target: float) -> None:
        """Build it for embeddings of `width` numbers; new logits are near `start`."""
        super().__init__(target)
        self.width = width
        self.expand = last_layer(width, start)
        self.logits_by_target = nn.Parameter(torch.zeros(len(start)))

    def sees(self, x: Tensor, flow: Flow) -> tuple[Tensor, Beside]:
        """Return the embedding (B, width); zeros where there is no policy network."""
        found = flow.beside.get(EMBEDDING)
        return x.new_zeros((x.shape[0], self.width)) if found is None else found, {}

    def forward(self, embedded: Tensor) -> Tensor:
        """Map (B, width) to (B, L)."""
        return self.logits(embedded)


class RecurrentFeatures(GateFeatures):
    """Logits of an LSTM that reads the pooled inputs of this block and those before (SkipNet, section 3.2).

    The LSTM is shared by all such gates. What stands before it, 10 units of the block's own, and the logits
    that are read off it are each gate's; in the paper the latter are shared too, for all gates are alike.
    """

    def __init__(self, in_channels: int, start: Sequence[float], target: float) -> None:
        """Build it for inputs of `in_channels` channels; new logits are near `start`."""
        super().__init__(in_channels, start, target, hidden=RECURRENT_UNITS)
        with torch.no_grad():
            self.expand.weight.div_(HIDDEN_SPREAD)

    def sees(self, x: Tensor, flow: Flow) -> tuple[Tensor, Beside]:
        """Return the LSTM's hidden units (B, 10) and its state.

        The state goes on through skipped blocks too.
        """
        hidden, state = lstm_step(self.pooled(x), flow)
        return hidden, {STATE.name: state}

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, 10) to (B, L)."""
        return self.logits(hidden)


def carried_by_gate(config: BlockConfig) -> tuple[Carried, ...]:
    """Return the side values that a gate of this config reads or hands on."""
    if config.gate_reads == "policy":
        return (embedding(int(config.gate["policy_width"])),)
    return (STATE,) if config.gate_reads == "recurrent" else ()


def features_of(config: BlockConfig, start: Sequence[float]) -> Features:
    """Return the features of a gate of this config, where it does not look at its block's input.

    Args:
        config: with a target. start: the logits to begin with, about.
    """
    target = float(config.gate["target"])
    if config.gate_reads == "recurrent":
        return RecurrentFeatures(config.in_channels, start, target)
    return PolicyFeatures(int(config.gate["policy_width"]), start, target)
