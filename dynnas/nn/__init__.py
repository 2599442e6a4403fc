"""Operators: plain torch modules for concrete configs, static and dynamic.

Importing this package imports every op, and so registers it.
"""

from dynnas.nn import activations, attentions, blocks, kernels
from dynnas.nn.exits import answer, answers, is_confident, leave, select_confident, sureness
from dynnas.nn.gates import families as gates
from dynnas.nn.gates.gate import GATES, Decision, decisions, register_gate
from dynnas.nn.kernels.kernel import KERNELS, register_kernel
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.modes import (
    set_estimator,
    set_execution,
    set_gate_noise,
    set_open,
    set_routing_dropout,
    set_strategy,
    set_temperature,
    settle,
)
from dynnas.nn.networks.network import Network, Segment, build, run, slot_module
from dynnas.nn.registry import (
    ACTIVATIONS,
    ATTENTIONS,
    BLOCKS,
    register_activation,
    register_attention,
    register_block,
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
