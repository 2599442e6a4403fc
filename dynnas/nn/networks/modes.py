"""The precomputation of everything constant in a network whose training is over."""

from __future__ import annotations

from torch import nn

from dynnas.nn.gates.features import Features
from dynnas.nn.gates.policy import Policy
from dynnas.nn.kernels.kernel import Kernel


def settle(module: nn.Module) -> None:
    """Precompute everything in `module` that does not depend on the input: the result is what ships."""
    for child in module.modules():
        if isinstance(child, Kernel | Features | Policy):
            child.settle()
