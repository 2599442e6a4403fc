"""A knob: one choice that a space file may leave open, with its values, its default and where it applies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dynnas.space.architecture import Value
from dynnas.space.rule import Rule

MAX_VALUES = 1000
"""Maximum number of values of one knob."""

# What a section says of its knobs: values, smallest first; none for a knob that could not be read.
Knobs = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class When:
    """The condition that the sibling `knob` has one of `values` (or none of them: `excluded`)."""

    knob: str
    values: tuple[Value, ...]
    excluded: bool = False

    def holds_for(self, value: Value) -> bool:
        """Return whether the knob applies where the sibling has this value."""
        return (value in self.values) != self.excluded

    def __str__(self) -> str:
        listed = " or ".join(map(str, self.values))
        return f"{self.knob} is {'not ' if self.excluded else ''}{listed}"


@dataclass(frozen=True)
class Knob:
    """One choice of a section; `default` is None where the file must give it."""

    name: str
    rule: Rule
    help: str
    default: Value | None = None
    when: When | None = None

    @property
    def ordered(self) -> bool:
        """Return whether the values are numbers."""
        return self.rule.kind is not str


def whole(minimum: int, maximum: int) -> Rule:
    """Return the rule of a whole number in these limits."""
    return Rule(int, minimum=minimum, maximum=maximum)


def real(minimum: float, maximum: float) -> Rule:
    """Return the rule of a number in these limits."""
    return Rule(float, minimum=minimum, maximum=maximum)


def names(table: Iterable[Knob]) -> tuple[str, ...]:
    """Return the names of a table's knobs."""
    return tuple(knob.name for knob in table)


def required(table: Iterable[Knob]) -> tuple[str, ...]:
    """Return the names of the knobs that a file must give."""
    return tuple(knob.name for knob in table if knob.default is None)
