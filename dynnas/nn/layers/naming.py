"""Names in the paths of parameters; a supernet shares parameters by them."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def named(name: str, module: nn.Module) -> nn.Sequential:
    """Put `name` into the paths of parameters of `module`, so that no other operator shares them."""
    return nn.Sequential(OrderedDict({name: module}))
