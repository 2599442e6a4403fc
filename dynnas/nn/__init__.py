"""Operators: plain torch modules for concrete configs, static and dynamic.

Importing this package imports every op, and so registers it.
"""

from dynnas.nn import activations, attentions, blocks, kernels
from dynnas.nn.gates import families

__all__ = ["activations", "attentions", "blocks", "families", "kernels"]
