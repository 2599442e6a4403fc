"""Layers as plain torch modules, static and dynamic, which serve networks of any kind.

`Conv2d` is torch's with dynamic kernels to choose from. `EarlyExits` lets images leave early, `Skippable`
lets them pass by a module, `Halting` ends a run of modules for them, `HaltingTokens` for single tokens, and
`DynamicResolution` runs a module at a resolution that suits them. `SkipRNN` leaves out updates of its state,
`JumpRNN` steps of a sequence, and `ExitInTime` stops reading it once it is sure. `RecurrentAttention` looks
closer at a part of an image, `GlimpseRNN` sees it by small patches alone, `PatchSelection` and
`FrameSelection` choose what is looked at, and `ConditionalMLP` how wide fully connected layers are.
`SoftDecisionTree` and `NeuralTree` are heads, and `Carafe` enlarges maps. `block`, `attention` and
`activation` make modules by name.

What is registered under a name is imported when a registry is first read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynnas.lazy import lazy

if TYPE_CHECKING:
    from dynnas.nn.blocks_by_name import Halting, Skippable, block
    from dynnas.nn.by_name import activation, attention
    from dynnas.nn.carafe import Carafe
    from dynnas.nn.conditional_mlp import ConditionalMLP
    from dynnas.nn.conv2d import Conv2d
    from dynnas.nn.dynamic_resolution import DynamicResolution
    from dynnas.nn.exits.early_exits import EarlyExits
    from dynnas.nn.exits.patient_exits import PatientExits
    from dynnas.nn.exits.policy_exits import PolicyExits
    from dynnas.nn.gates.family import GATES
    from dynnas.nn.kernels.kernel import KERNELS
    from dynnas.nn.regions.glimpses import GlimpseRNN, GlimpseSensor
    from dynnas.nn.regions.recurrent_attention import AttentionCrop, RecurrentAttention
    from dynnas.nn.regions.selection import FrameSelection, PatchSelection
    from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
    from dynnas.nn.sequences.jump_rnn import JumpRNN
    from dynnas.nn.sequences.recurrent import ExitInTime, SkipRNN
    from dynnas.nn.sequences.token_halting import HaltingTokens, TokenLayer
    from dynnas.nn.trees.neural_tree import NeuralTree
    from dynnas.nn.trees.soft_tree import SoftDecisionTree

__all__ = [
    "ACTIVATIONS",
    "ATTENTIONS",
    "BLOCKS",
    "GATES",
    "KERNELS",
    "AttentionCrop",
    "Carafe",
    "ConditionalMLP",
    "Conv2d",
    "DynamicResolution",
    "EarlyExits",
    "ExitInTime",
    "FrameSelection",
    "GlimpseRNN",
    "GlimpseSensor",
    "Halting",
    "HaltingTokens",
    "JumpRNN",
    "NeuralTree",
    "PatchSelection",
    "PatientExits",
    "PolicyExits",
    "RecurrentAttention",
    "SkipRNN",
    "Skippable",
    "SoftDecisionTree",
    "TokenLayer",
    "activation",
    "attention",
    "block",
]

_HOMES = {
    "ACTIVATIONS": "registry",
    "ATTENTIONS": "registry",
    "BLOCKS": "registry",
    "GATES": "gates.family",
    "KERNELS": "kernels.kernel",
    "AttentionCrop": "regions.recurrent_attention",
    "Carafe": "carafe",
    "ConditionalMLP": "conditional_mlp",
    "Conv2d": "conv2d",
    "DynamicResolution": "dynamic_resolution",
    "EarlyExits": "exits.early_exits",
    "ExitInTime": "sequences.recurrent",
    "FrameSelection": "regions.selection",
    "GlimpseRNN": "regions.glimpses",
    "GlimpseSensor": "regions.glimpses",
    "Halting": "blocks_by_name",
    "HaltingTokens": "sequences.token_halting",
    "JumpRNN": "sequences.jump_rnn",
    "NeuralTree": "trees.neural_tree",
    "PatchSelection": "regions.selection",
    "PatientExits": "exits.patient_exits",
    "PolicyExits": "exits.policy_exits",
    "RecurrentAttention": "regions.recurrent_attention",
    "SkipRNN": "sequences.recurrent",
    "Skippable": "blocks_by_name",
    "SoftDecisionTree": "trees.soft_tree",
    "TokenLayer": "sequences.token_halting",
    "activation": "by_name",
    "attention": "by_name",
    "block": "blocks_by_name",
}

__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
