"""A design space with the settings of its study."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dynnas.settings.settings import Settings
from dynnas.settings.table import TableSettings
from dynnas.space.gene import QUANTIZATIONS, QUANTIZE, Gene
from dynnas.space.space import Space


@dataclass(frozen=True)
class StudySpace(Space):
    """A space and what else a space file says: how it is trained, searched and measured.

    Attributes:
        settings: of the study.
        source: the file; None where there is none.
        table: how the `choices` are looked up in a table; None where candidates are evaluated.
    """

    settings: Settings = field(default_factory=Settings, hash=False)
    source: str | None = field(default=None, compare=False)
    table: TableSettings | None = field(default=None, hash=False)

    def _all_genes(self) -> tuple[Gene, ...]:
        """Return the genes, and behind them that of quantisation where the target asks for it."""
        own = tuple(gene for gene in self.genes if gene.name != QUANTIZE)
        known = tuple(gene for gene in self.genes if gene.name == QUANTIZE)
        asked = tuple(value for value in QUANTIZATIONS if value in self.settings.target.quantize)
        if asked not in ((), ("none",)) and (self.network is not None or self.model is not None):
            restricted = all({*gene.values} <= {*asked} for gene in known)
            own += known if known and restricted else (Gene(QUANTIZE, asked),)
        return own

    @staticmethod
    def around(space: Space, **changes: Any) -> StudySpace:
        """Return a space with these fields, else with its own, else with the defaults."""
        return StudySpace(**{each.name: getattr(space, each.name) for each in fields(space)} | changes)
