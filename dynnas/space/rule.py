"""The rules of single values in a space file; the parser, its messages and the JSON Schema share them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

_LARGEST = sys.float_info.max  # nothing but a finite number is at most this


@dataclass(frozen=True)
class Pattern:
    """Texts of one form: `words` for messages, and the regular expression that all of a text must match."""

    words: str
    expression: str

    def matches(self, text: str) -> bool:
        """Return whether `text` has the form."""
        return re.fullmatch(self.expression, text) is not None


@dataclass(frozen=True)
class Rule:
    """A type with its limits (inclusive). `choices` lists the texts that are allowed; none means any text.

    Where there is a `pattern`, texts of its form are allowed beside the choices.
    """

    kind: type[int] | type[float] | type[str] | type[bool]
    minimum: float | None = None
    maximum: float | None = None
    odd: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    pattern: Pattern | None = None

    def accept(self, value: object) -> Any:
        """Return the value in the rule's own type (3.0 becomes 3 where an int is wanted).

        Raises:
            ValueError: the value is not allowed; None is never accepted here, see `optional`.
        """
        if self.kind is bool or self.kind is str:
            if not isinstance(value, self.kind) or value == "" or (self.choices and not self._names(value)):
                raise ValueError(value)
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise ValueError(value)
        number = self.kind(value)
        if (
            number != value
            or (self.minimum is not None and number < self.minimum)
            or (self.maximum is not None and number > self.maximum)
            or (self.odd and number % 2 == 0)
        ):
            raise ValueError(value)
        return number

    def _names(self, text: str | bool) -> bool:
        return text in self.choices or (self.pattern is not None and self.pattern.matches(str(text)))

    def __str__(self) -> str:
        """Return the allowed values, in words."""
        if self.choices:
            words = ", ".join((*self.choices, *([self.pattern.words] if self.pattern else [])))
        elif self.kind is bool:
            words = "true or false"
        elif self.kind is str:
            words = "text"
        else:
            words = (
                ("an odd whole number" if self.odd else "a whole number") if self.kind is int else "a number"
            )
            if self.minimum is not None and self.maximum is not None:
                words += f" from {self.minimum:g} to {self.maximum:g}"
            elif self.minimum is not None:
                words += f" of at least {self.minimum:g}"
        return words + (", or null" if self.optional else "")

    def schema(self) -> dict[str, Any]:
        """Return the rule as JSON Schema."""
        names = {int: "integer", float: "number", str: "string", bool: "boolean"}
        schema: dict[str, Any] = {"type": [names[self.kind], "null"] if self.optional else names[self.kind]}
        if self.pattern:
            schema["anyOf"] = [{"enum": list(self.choices)}, {"pattern": f"^{self.pattern.expression}$"}]
        elif self.choices:
            schema["enum"] = [*self.choices, None] if self.optional else list(self.choices)
        elif self.kind is str:
            schema["minLength"] = 1
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        if self.maximum is not None:
            schema["maximum"] = self.maximum
        if self.odd:
            schema["not"] = {"multipleOf": 2}
        return schema
