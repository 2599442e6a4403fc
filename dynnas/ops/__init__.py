"""Operators: plain torch modules for concrete configs, static and dynamic.

Importing this package imports every op, and so registers it.
"""

from dynnas.ops import activations, attentions, blocks, gates, kernels
from dynnas.ops.digest import weights_digest
from dynnas.ops.exits import answer, answers, is_confident, leave, select_confident, sureness
from dynnas.ops.gate import Decision, decisions
from dynnas.ops.modes import (
    set_estimator,
    set_execution,
    set_gate_noise,
    set_open,
    set_routing_dropout,
    set_strategy,
    set_temperature,
    settle,
)
from dynnas.ops.network import Network, Segment, build, run, slot_module
from dynnas.ops.registry import (
    ACTIVATIONS,
    ATTENTIONS,
    BLOCKS,
    GATES,
    KERNELS,
    register_activation,
    register_attention,
    register_block,
    register_gate,
    register_kernel,
)

__all__ = [
    "ACTIVATIONS",
    "ATTENTIONS",
    "BLOCKS",
    "GATES",
    "KERNELS",
    "Decision",
    "Network",
    "Segment",
    "activations",
    "answer",
    "answers",
    "attentions",
    "blocks",
    "build",
    "decisions",
    "gates",
    "is_confident",
    "kernels",
    "leave",
    "register_activation",
    "register_attention",
    "register_block",
    "register_gate",
    "register_kernel",
    "run",
    "select_confident",
    "set_estimator",
    "set_execution",
    "set_gate_noise",
    "set_open",
    "set_routing_dropout",
    "set_strategy",
    "set_temperature",
    "settle",
    "slot_module",
    "sureness",
    "weights_digest",
]
