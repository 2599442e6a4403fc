"""The meaning of a number about a candidate: its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """A metric: one number that is known of a candidate.

    Attributes:
        name: by which it is an objective or a limit.
        unit: such as "ms" or "share" (0..1).
        direction: the better way.
        title: what it is, in words.
    """

    name: str
    unit: str
    direction: Direction
    title: str

    @property
    def share(self) -> bool:
        """Tell whether it is a share, which is written in percent."""
        return self.unit == "share"

    @property
    def heading(self) -> str:
        """Return its name as the heading of a column, with its unit."""
        return f"{self.name} %" if self.share else self.name

    def text(self, value: float) -> str:
        """Spell a value, without its unit: a share in percent."""
        return f"{100 * value:.2f}" if self.share else f"{value:.4g}"

    def better(self, value: float, other: float) -> bool:
        """Tell whether a value is better than another."""
        return value > other if self.direction == "maximize" else value < other
