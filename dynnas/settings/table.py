"""The section `evaluator` of a space file: a table of measured architectures to search in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TableSettings:
    """`evaluator`: where an architecture stands in a table, and what its columns mean.

    Attributes:
        table: path of the file, as the space file gives it.
        genes: name of the matrix of places, or columns by choice.
        metrics: columns by metric.
        objectives: `maximize` or `minimize`, by metric.
        limits: upper limits by metric.
        cheap: metrics that are known in advance.
        noisy: whether an evaluation is a single measurement.
    """

    table: str
    genes: str | Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    cheap: tuple[str, ...] = ()
    noisy: bool = False
