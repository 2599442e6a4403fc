"""An evaluator that looks architectures up in a table, so that published benchmarks can be searched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dynnas.errors import StudyError, UnavailableError
from dynnas.files import data_folders
from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import INACTIVE, Genome
from dynnas.search.evaluators.table_file import TableFile
from dynnas.settings.table import TableSettings
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.space import Space

# A table with a smaller part of its space is searched among its rows only.
_DENSE = 4


class TableEvaluator:
    """Metrics from a table.

    Several rows of one architecture, and several columns of one metric, are measurements of the same thing:
    their mean counts, or with `noisy` one that is drawn by architecture and seed. Rows whose values the space
    does not have are left out.

    Args:
        space: whose choices the table has.
        settings: what its columns mean.
        folder: from which the path of the table counts.
        seed: draws measurements.

    Raises:
        StudyError: the table cannot be read, or lacks something.
        MissingExtraError: reading it needs a package that is not installed.
    """

    def __init__(self, space: Space, settings: TableSettings, folder: Path, seed: int = 0) -> None:
        self._genome = Genome(space)
        self._settings = settings
        self._seed = seed
        path = Path(settings.table).expanduser()
        self._file = TableFile.read(_found(path, folder))
        self.goal = Goal.of(settings.objectives, settings.limits)
        names = dict.fromkeys([*self.goal.metrics, *settings.metrics, *settings.cheap])
        self._metrics = {name: self._measurements(name) for name in names}
        self._rows = self._index()

    @property
    def provenance(self) -> str:
        """Return everything that the metrics depend on: the file, and how it is read."""
        read = [
            self._settings.genes,
            self._settings.metrics,
            self._settings.noisy,
            self._seed if self._settings.noisy else 0,
        ]
        return hashlib.sha256(f"{self._file.digest} {read}".encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Return how many architectures of the space the table has."""
        return len(self._rows)

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        """Return all metrics.

        Raises:
            UnavailableError: the table has no such row, or nothing in it for an objective.
        """
        rows = self._rows.get(self._genome.encode(architecture).tobytes())
        if rows is None:
            raise UnavailableError(f"not in the table {self._file.path.name}")
        found = {name: self._value(name, rows, architecture) for name in self._metrics}
        missing = [name for name in self.goal.metrics if np.isnan(found[name])]
        if missing:
            raise UnavailableError(f"the table {self._file.path.name} has no {', '.join(missing)} for it")
        return {name: value for name, value in found.items() if not np.isnan(value)}

    def cheap(self, architecture: Architecture) -> Mapping[str, float] | None:
        """Return the metrics that are known in advance; None for an architecture that the table lacks."""
        rows = self._rows.get(self._genome.encode(architecture).tobytes())
        if rows is None:
            return None
        found = {name: self._value(name, rows, architecture) for name in self._settings.cheap}
        return None if any(map(np.isnan, found.values())) else found

    def listed(self) -> tuple[Architecture, ...] | None:
        """Return the table's architectures of the space, where a search would have to guess them."""
        if self.size * _DENSE >= self._genome.space.size:
            return None
        rows = np.array([np.frombuffer(name, dtype=np.int16) for name in self._rows])
        return tuple(self._genome.decode(row) for row in rows)

    def _value(self, name: str, rows: tuple[int, ...], architecture: Architecture) -> float:
        measured = self._metrics[name][list(rows)].ravel()
        measured = measured[~np.isnan(measured)]
        if not len(measured):
            return float("nan")
        if not self._settings.noisy or name in self._settings.cheap:
            return float(measured.mean())
        # By name, not by turn: evaluated again, it is the same measurement.
        drawn = hashlib.sha256(f"{self._seed}/{name}/{architecture.key}".encode()).digest()
        return float(measured[int.from_bytes(drawn[:8], "big") % len(measured)])

    def _measurements(self, name: str) -> np.ndarray:
        """Return the measurements of a metric, [rows, measurements]."""
        columns = self._settings.metrics.get(name, (name,))
        found = [self._file.column(column, f"the metric {name!r}") for column in columns]
        try:
            return np.column_stack(found).astype(float)
        except ValueError as error:
            raise StudyError(f"table: the metric {name!r} is no number everywhere ({error})") from error

    def _index(self) -> dict[bytes, tuple[int, ...]]:
        """Return the rows of every architecture."""
        places = self._places()
        inside = np.flatnonzero((places != INACTIVE).all(axis=1))
        if not len(inside):
            raise StudyError(
                f"table: none of the {self._file.rows} rows of {self._file.path} is an architecture of the "
                f"space; {self._unlike(places)}"
            )
        # Nothing is drawn: every choice has its value. Inactive ones go.
        rows = self._genome.canonical(places[inside], np.random.default_rng(0))
        index: dict[bytes, tuple[int, ...]] = {}
        for row, place in zip(rows, inside.tolist(), strict=True):
            index[row.tobytes()] = (*index.get(row.tobytes(), ()), place)
        return index

    def _places(self) -> np.ndarray:
        """Return the index of every value among its gene's, [rows, genes].

        It is INACTIVE where it is none of them.
        """
        genes = self._genome.space.genes
        if isinstance(self._settings.genes, str):
            matrix = self._file.column(self._settings.genes, "the genes")
            if matrix.ndim != 2 or matrix.shape[1] != len(genes):
                raise StudyError(
                    f"table: {self._settings.genes!r} has the shape {matrix.shape}; the space has "
                    f"{len(genes)} choices, so [rows, {len(genes)}] is needed"
                )
            inside = (matrix >= 0) & (matrix < self._genome.counts)
            return np.where(inside, matrix, INACTIVE).astype(np.int16)
        return np.column_stack([self._places_of(gene) for gene in genes])

    def _places_of(self, gene: Gene) -> np.ndarray:
        assert not isinstance(self._settings.genes, str)
        column = self._file.column(
            self._settings.genes.get(gene.name, gene.name), f"the choice {gene.name!r}"
        )
        known: dict[object, int] = {value: at for at, value in enumerate(gene.values)}
        # `true` and `false` are texts in a space, in whichever spelling a table has them.
        known |= {str(value): at for value, at in list(known.items())}
        return np.array([_place(value, known) for value in column.tolist()], dtype=np.int16)

    def _unlike(self, places: np.ndarray) -> str:
        """Return a value that the space does not have."""
        row, gene = np.argwhere(places == INACTIVE)[0]
        name = self._genome.space.genes[gene].name
        if isinstance(self._settings.genes, str):
            return f"row {row} is out of range at {name!r}"
        value = self._file.column(self._settings.genes.get(name, name), "a choice")[row]
        values = [str(value) for value in self._genome.space.genes[gene].values]
        return f"row {row} has {str(value)!r} for {name!r}, which may be {', '.join(values)}"


def _found(path: Path, folder: Path) -> Path:
    places = [path] if path.is_absolute() else [place / path for place in (folder, *data_folders())]
    return next((place for place in places if place.exists()), places[0])


def _place(value: object, known: Mapping[object, int]) -> int:
    if str(value).lower() in ("true", "false"):
        return known.get(str(value).lower(), INACTIVE)
    return known.get(value, INACTIVE)
