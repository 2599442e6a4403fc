"""Names in the paths of parameters, by which a supernet shares them."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def named(name: str, module: nn.Module) -> nn.Sequential:
    """`module` with `name` in the path of its parameters, so that no operator of another name shares them."""
    return nn.Sequential(OrderedDict({name: module}))
