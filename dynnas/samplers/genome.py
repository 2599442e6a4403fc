"""Architectures as rows of whole numbers, so that thousands are varied and compared at once.

A row has one number a gene of the space: the place of its value among the gene's values, or `INACTIVE`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dynnas.space.architecture import Architecture
from dynnas.space.space import Space

INACTIVE = -1

Rows = np.ndarray
"""Architectures as rows, [architectures, genes] int16."""


@dataclass(frozen=True)
class Layout:
    """The gene or total that each feature of an architecture belongs to.

    Attributes:
        genes: [features] increasing: the index of a gene in `Genome.choices`, and from the number of choices
            on totals over genes, and a forecast of what is to be predicted.
        parts: the number of genes, of totals, of places on lines and, where there is one, of forecasts.
    """

    genes: np.ndarray
    parts: tuple[int, ...]

    @property
    def smooth(self) -> bool:
        """Return whether there are places on lines."""
        return len(self.parts) > 2 and self.parts[2] > 0

    @property
    def forecasts(self) -> bool:
        """Return whether there is a forecast."""
        return len(self.parts) > 3

    def with_forecast(self) -> Layout:
        """Return the layout of these features with a forecast behind them."""
        return Layout(np.append(self.genes, self.genes[-1] + 1), (*self.parts, 1))


class Listed:
    """The rows of a space where only a few architectures can be evaluated.

    Args:
        genome: of the space.
        rows: all of them, [architectures, genes].
    """

    # Number of rows among which the nearest one is looked for.
    _AMONG = 4000

    def __init__(self, genome: Genome, rows: Rows) -> None:
        self.rows = rows
        self._genome = genome
        self._names = [row.tobytes() for row in rows]

    def sample(self, count: int, rng: np.random.Generator) -> Rows:
        """Return `count` of the rows, or all."""
        return self.rows[rng.permutation(len(self.rows))[:count]]

    def nearest(self, rows: Rows, taken: Collection[bytes], rng: np.random.Generator) -> Rows:
        """Return for every one of `rows` a listed one that is as similar as any of a large sample.

        Those that are `taken` are passed over; of all the others, a row may be the nearest of several.
        """
        free = np.array([at for at, name in enumerate(self._names) if name not in taken], dtype=int)
        among = self.rows[rng.permutation(free)[: self._AMONG]]
        if not len(among):
            return among
        own = self._genome.layout.genes < len(self._genome.choices)
        features, wanted = (self._genome.features(some)[:, own] for some in (among, rows))
        squares = (features**2).sum(axis=1)[None] - 2 * wanted @ features.T
        return among[squares.argmin(axis=1)]


class Genome:
    """The genes of a space, as columns."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.counts = np.array([len(gene.values) for gene in space.genes])
        self.choices = np.flatnonzero(self.counts > 1)
        self._columns = {gene.name: column for column, gene in enumerate(space.genes)}
        # For each conditional gene: its column, and for each gene it depends on, which values allow it. The
        # last entry stands for INACTIVE, which as an index is the last.
        self._conditions = [
            (column, [self._allowed(name, values) for name, values in gene.condition])
            for column, gene in enumerate(space.genes)
            if gene.condition
        ]

    def _allowed(self, name: str, values: Iterable[object]) -> tuple[int, np.ndarray]:
        column = self._columns[name]
        wanted = set(values)
        own = self.space.genes[column].values
        return column, np.array([*(value in wanted for value in own), False])

    @cached_property
    def ordered(self) -> np.ndarray:
        """Return whether neighbouring values of each gene are alike, [genes] bool."""
        return np.array([gene.ordered for gene in self.space.genes])

    def encode(self, architecture: Architecture) -> np.ndarray:
        """Return the row of an architecture."""
        return np.array(
            [
                gene.values.index(architecture[gene.name]) if gene.name in architecture else INACTIVE
                for gene in self.space.genes
            ],
            dtype=np.int16,
        )

    def encode_all(self, architectures: Iterable[Architecture]) -> Rows:
        """Return the rows of several architectures."""
        rows = [self.encode(architecture) for architecture in architectures]
        return np.array(rows, dtype=np.int16).reshape(-1, len(self.counts))

    def decode(self, row: np.ndarray) -> Architecture:
        """Return the architecture of a row."""
        return Architecture(
            tuple(
                (gene.name, gene.values[at])
                for gene, at in zip(self.space.genes, row.tolist(), strict=True)
                if at != INACTIVE
            )
        )

    def canonical(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return the rows with inactive genes marked, and genes that have become active drawn uniformly."""
        return self.completed(rows, self._drawn(len(rows), rng))

    def completed(self, rows: Rows, others: Rows) -> Rows:
        """Return the rows with inactive genes marked, and genes that have become active as in `others`."""
        rows = np.array(rows, dtype=np.int16)
        for column, parents in self._conditions:
            active = np.ones(len(rows), dtype=bool)
            for parent, allowed in parents:
                active &= allowed[rows[:, parent]]
            known = np.where(rows[:, column] == INACTIVE, others[:, column], rows[:, column])
            rows[:, column] = np.where(active, known, INACTIVE)
        return rows

    def sample(self, count: int, rng: np.random.Generator) -> Rows:
        """Return rows with every active gene drawn uniformly."""
        return self.canonical(self._drawn(count, rng), rng)

    def _drawn(self, count: int, rng: np.random.Generator) -> Rows:
        return (rng.random((count, len(self.counts))) * self.counts).astype(np.int16)

    def mutate(self, rows: Rows, changes: np.ndarray, local: float, rng: np.random.Generator) -> Rows:
        """Change some active choices of every row.

        Args:
            rows: what to change.
            changes: [architectures] how many choices of each change, at least 1.
            local: how often an ordered gene moves to a neighbouring value; else any other is drawn.
            rng: draws.
        """
        lots = rng.random(rows.shape)
        lots[:, self.counts < 2] = 2.0
        lots[rows == INACTIVE] = 2.0
        order = np.argsort(lots, axis=1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(rows.shape[1])[None], axis=1)
        changing = (rank < np.asarray(changes)[:, None]) & (lots < 2.0)

        spread = np.maximum(self.counts - 1, 1)
        other = (rows + 1 + (rng.random(rows.shape) * spread).astype(np.int16)) % self.counts
        up = rng.random(rows.shape) < 0.5
        up = np.where(rows <= 0, True, np.where(rows >= self.counts - 1, False, up))
        near = rows + np.where(up, 1, -1)
        stepping = self.ordered[None] & (rng.random(rows.shape) < local)
        changed = np.where(stepping, near, other)
        return self.canonical(np.where(changing, changed, rows), rng)

    def neighbours(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return every row that differs from one of `rows` in one active choice, each once.

        Genes that become active by the change are drawn.
        """
        found = []
        for column in self.choices:
            active = rows[rows[:, column] != INACTIVE]
            changed = np.repeat(active, self.counts[column] - 1, axis=0)
            steps = np.tile(np.arange(1, self.counts[column]), len(active))
            changed[:, column] = (changed[:, column] + steps) % self.counts[column]
            found.append(changed)
        return np.unique(self.canonical(np.concatenate([rows[:0], *found]), rng), axis=0)

    def cross(self, first: Rows, second: Rows, rng: np.random.Generator) -> Rows:
        """Take every gene from either row; a gene that only one has follows that row."""
        from_first = rng.random(first.shape) < 0.5
        crossed = np.where(from_first, first, second)
        crossed = np.where(crossed == INACTIVE, np.where(from_first, second, first), crossed)
        return self.canonical(crossed, rng)

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """Return for each choice [values + 1, features], whose distances are the kernel's.

        The last row is for INACTIVE.

        A text is one of unit vectors, a number its place on a thermometer, both scaled so that the squared
        distance is 1 between different texts and between the ends of the numbers; INACTIVE is halfway.
        """
        tables = []
        for column in self.choices:
            count = int(self.counts[column])
            if self.ordered[column]:
                steps = np.tril(np.ones((count, count - 1)), -1) - 0.5
                table = steps / np.sqrt(count - 1)
            else:
                table = np.eye(count) / np.sqrt(2)
            tables.append(np.vstack([table, np.zeros(table.shape[1])]))
        return tables

    @cached_property
    def _alike(self) -> list[np.ndarray]:
        """Return for each list of values that several choices have, the places of these in `choices`."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, column in enumerate(self.choices):
            gene = self.space.genes[column]
            groups.setdefault((gene.values, gene.ordered), []).append(place)
        return [np.array(places) for places in groups.values() if len(places) > 1]

    @cached_property
    def _lines(self) -> list[np.ndarray]:
        """Return tables in which a number is its place on a line, so that a kernel of them is smooth.

        There are none in a space without numbers of three values or more, which has no smoothness.
        """
        if not (self.ordered[self.choices] & (self.counts[self.choices] > 2)).any():
            return []
        tables = []
        for column, table in zip(self.choices, self._tables, strict=True):
            count = int(self.counts[column])
            line = np.append(np.linspace(-0.5, 0.5, count), 0.0)[:, None]
            tables.append(line if self.ordered[column] else table)
        return tables

    @cached_property
    def layout(self) -> Layout:
        """Return what each feature is about."""
        tables = [*self._tables, *(self._tables[places[0]] for places in self._alike), *self._lines]
        genes = np.repeat(np.arange(len(tables)), [table.shape[1] for table in tables])
        return Layout(genes, (len(self._tables), len(self._alike), len(self._lines)))

    def features(self, rows: Rows) -> np.ndarray:
        """Return the features of the choices of `rows`, totals over choices that are alike, and lines.

        Choices are alike if they have the same values, as the operations of all edges of a cell have. A total
        is divided by the root of their number, so that random rows are as far apart in it as in one choice.

        Returns:
            [architectures, features].
        """
        each = [table[rows[:, column]] for column, table in zip(self.choices, self._tables, strict=True)]
        totals = [sum(each[place] for place in places) / np.sqrt(len(places)) for places in self._alike]
        lines = [table[rows[:, column]] for column, table in zip(self.choices, self._lines, strict=False)]
        return np.concatenate([*each, *totals, *lines], axis=1)
