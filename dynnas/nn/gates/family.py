"""The registry of gate families."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from dynnas.nn.gates.gate import Gated
from dynnas.registry import Registry

GATES: Registry[type[Any]] = Registry(
    "gate", group="dynnas.gates", package="dynnas.nn.gates.families", order=attrgetter("capacity"), base=Gated
)

register_gate = GATES.register
