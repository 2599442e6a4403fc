"""Spaces and evaluators for the tests of the search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from dynnas.language.parser import parse_space
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.space import Space
from support.real_data import MACRO_FILE

# Conditional: whether layers, experts, groups and thresholds are there depends on other choices.
CONDITIONAL = """
name: conditional
input: {channels: 1, classes: 10, resolutions: [8, 12]}
stem: {width: [4, 8]}
stages:
  - {block: mbconv, depth: [1, 2], width: [4, 8], kernel: [3, 5], expand: [1, 2],
     op: [static, condconv, dynet], experts: [2, 4], group: [2, 3]}
  - {block: conv, depth: 1, width: 8}
head: {width: [8, 16]}
exits: {positions: [stage1], count: [0, 1], thresholds: [0.7, 0.9], width: 8}
"""


def conditional_space() -> Space:
    return parse_space(CONDITIONAL)


def grid_space(choices: int = 4, values: int = 4, name: str = "grid") -> Space:
    """A plain space of `values ** choices` architectures."""
    genes = tuple(Gene(f"x{index}", tuple(range(values)), ordered=True) for index in range(choices))
    return Space(name=name, genes=genes)


TABLE = """
name: grid
choices: {x0: [0, 1, 2, 3], x1: [0, 1, 2, 3], x2: [0, 1, 2, 3], x3: [0, 1, 2, 3], x4: [0, 1, 2, 3]}
evaluator: {table: table.csv, objectives: {accuracy: maximize, latency_ms: minimize}}
search: {sampler: random, trials: 1000}
"""


def write_table(folder: Path) -> Path:
    """A space file of 1,024 architectures with its table beside it."""
    space = grid_space(5)
    rows = ["x0,x1,x2,x3,x4,accuracy,latency_ms"]
    for number in range(4**5):
        values = [number // 4**place % 4 for place in range(5)]
        rows.append(f"{','.join(map(str, values))},{number % 97 / 97},{1 + sum(values)}")
    assert space.size == len(rows) - 1
    (folder / "table.csv").write_text("\n".join(rows))
    (folder / "grid.yaml").write_text(TABLE)
    return folder / "grid.yaml"


class Table:
    """Two conflicting metrics by formula, in two stages; counts what it is asked for."""

    def __init__(self) -> None:
        self.cheap = 0
        self.costly = 0

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        values = [float(value) for value in architecture.values() if not isinstance(value, str)]
        cost = 1.0 + sum(values)
        self.cheap += 1
        yield {"latency_ms": cost}
        self.costly += 1
        yield {"accuracy": 1.0 - 1.0 / cost - 0.01 * float(np.std(values))}


class MacroTable:
    """NAS-Bench-Macro on CIFAR-10: 6,561 networks of 8 layers with 3 choices each."""

    space = grid_space(8, 3, "nbmacro")

    def __init__(self) -> None:
        with np.load(MACRO_FILE) as table:
            accuracy = table["test_acc"].mean(axis=1)
            self._rows = {
                tuple(choice): {"accuracy": float(accuracy[row]), "macs": int(table["flops"][row])}
                for row, choice in enumerate(table["choice"].tolist())
            }

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        return self._rows[tuple(architecture.values())]

    def all(self) -> list[tuple[Architecture, Mapping[str, float]]]:
        return [
            (self.space.architecture({f"x{index}": value for index, value in enumerate(choice)}), metrics)
            for choice, metrics in self._rows.items()
        ]
