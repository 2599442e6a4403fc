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
