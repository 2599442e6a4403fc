"""The facts that an operator states; language, refusals, tables and tests are computed from them.

An operator is a registered class: a block, a kernel op, an attention, an activation or a gate. Its facts are
class attributes, so a new operator is one file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dynnas.space.knob import Knob

Kind = Literal["block", "op", "attention", "activation", "gate"]
"""The kinds of operators, by the keys that space files choose them with."""

LOCAL = "local"
"""The value of an output depends on what lies around its place, not on the whole image."""

DEPTHWISE = "depthwise"
"""A block has a depthwise convolution."""

HIDDEN_CHANNELS = "hidden channels"
"""A block has channels between its convolutions, and an image may use a part of them (`Hidden`)."""

KERNEL_OPS = "kernel ops"
"""A block's convolutions may be of any kernel op."""

GATES = "gates"
"""A block may have a gate."""


@dataclass(frozen=True)
class Requirement:
    """A fact that an operator asks of the operators that it meets in a layer.

    Attributes:
        of: the kinds of operators that it asks it of.
        fact: what they must provide.
        reason: why it cannot do without it, for the message that refuses the combination.
    """

    of: tuple[Kind, ...]
    fact: str
    reason: str


class Operator:
    """The facts of an operator, as class attributes."""

    knobs: ClassVar[tuple[Knob, ...]] = ()
    """Keyword arguments of the constructor that a space file may choose, with their ranges and defaults.

    A larger number must not make a weight smaller: a supernet makes room for the largest.
    """

    requires: ClassVar[tuple[Requirement, ...]] = ()
    """The requirements on the operators beside it."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """The facts that other operators may ask for."""

    capacity: ClassVar[float] = 50.0
    """The rank among the operators of its kind, the smallest first: `smallest` and `largest` take the
    ends.
    """

    input_dependent: ClassVar[bool] = False
    """True if what it computes with depends on the image."""

    paper: ClassVar[str] = ""
    """The publication, as in "Yang et al. 2019, arXiv:1904.04971"; empty if there is none."""


def refusal(kind: Kind, one: type[Operator], other_kind: Kind, other: type[Operator]) -> str | None:
    """Return why two operators cannot be in one layer: a requirement that is not met; None if they can."""
    for requirement in one.requires:
        if other_kind in requirement.of and requirement.fact not in other.provides:
            return requirement.reason
    for requirement in other.requires:
        if kind in requirement.of and requirement.fact not in one.provides:
            return requirement.reason
    return None
