"""The registry of gate families."""

from __future__ import annotations

from typing import Protocol

from dynnas.nn.gates.gate import Gated
from dynnas.nn.gates.state import Carried
from dynnas.registry import Registry
from dynnas.space.config.network import BlockConfig


class GateFamily(Protocol):
    """A class of gated blocks: what is asked of it before there is a block."""

    def __call__(self, config: BlockConfig) -> Gated:
        """A block with its gate."""
        ...

    def carries(self, config: BlockConfig) -> tuple[Carried, ...]:
        """See `Gated.carries`."""
        ...

    def leaves_out(self, config: BlockConfig) -> bool:
        """See `Gated.leaves_out`."""
        ...


GATES: Registry[GateFamily] = Registry("gate", group="dynnas.gates", package="dynnas.nn.gates.families")

register_gate = GATES.register
