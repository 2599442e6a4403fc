"""A tree of YAML text with the place of every node.

Scalars are read by YAML 1.2's core rules (`1e-3` is a number, `on` and `2020-01-01` are text) and aliases are
followed, as are merge keys (`<<: *name`). What a space file never needs (tags, keys that are not text,
several documents) is a problem.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dynnas.language.problems import Mark

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null"), None),
    "true": True,
    "false": False,
    **dict.fromkeys((".inf", "+.inf"), math.inf),
    "-.inf": -math.inf,
    ".nan": math.nan,
}


@dataclass(frozen=True)
class Scalar:
    """A single value; `plain` if it stands without quotes."""

    text: str
    plain: bool
    mark: Mark

    @property
    def value(self) -> int | float | bool | str | None:
        """Return the value of the text.

        A whole number of 18 digits or more becomes infinite, because none is meant.
        """
        if not self.plain:
            return self.text
        if self.text.lower() in _WORDS:
            return _WORDS[self.text.lower()]
        if _INT.fullmatch(self.text):
            return int(self.text) if len(self.text) < 18 else math.inf
        return float(self.text) if _FLOAT.fullmatch(self.text) else self.text

    def __str__(self) -> str:
        if self.value is None:
            return "nothing"
        shown = self.text if len(self.text) <= 40 else f"{self.text[:37]}..."
        return repr(shown) if isinstance(self.value, str) else shown


@dataclass(frozen=True)
class Listing:
    """A list."""

    items: tuple[Node, ...]
    mark: Mark

    def __str__(self) -> str:
        return "a list" if self.items else "an empty list"


@dataclass(frozen=True)
class Table:
    """A mapping, in the order of the file; every key occurs once."""

    entries: tuple[tuple[Scalar, Node], ...]
    mark: Mark

    def __str__(self) -> str:
        return "a mapping" if self.entries else "an empty mapping"


Node = Scalar | Listing | Table
