"""Operators: plain torch modules for concrete configs, static and dynamic.

What is registered under a name is imported when a registry is first read.
"""

from dynnas.nn import activations, attentions, blocks, kernels
from dynnas.nn.gates import families

__all__ = ["activations", "attentions", "blocks", "families", "kernels"]
