"""Tables to search: one of measured networks, and made-up ones whose whole front is known.

The made-up ones are unlike each other and unlike the measured one on purpose: cells of texts with
interactions, conditional networks of numbers and texts, whose accuracies have a part that no model can learn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import moocore
import numpy as np

from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.moves import enumerate_all
from dynnas.space.space import Space
from support.real_data import MACRO_FILE

OPS = ("none", "skip", "conv1", "conv3", "pool")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


@dataclass(frozen=True)
class Problem:
    """Every architecture of a space with its accuracy and its costs.

    Attributes:
        name: for people.
        space: the architectures.
        rows: row of every architecture, by its values.
        accuracy: [rows] in per cent.
        costs: [rows] by name.
        noise: deviation of what an evaluation adds to the accuracy.
        fails: [rows] bool: what cannot be evaluated; None where everything can.
    """

    name: str
    space: Space
    rows: Mapping[tuple[object, ...], int]
    accuracy: np.ndarray
    costs: Mapping[str, np.ndarray]
    noise: float = 0.0
    fails: np.ndarray | None = None

    def row(self, architecture: Architecture) -> int:
        """Where the architecture stands."""
        return self.rows[tuple(architecture.values())]

    def losses(self, cost: str) -> np.ndarray:
        """[rows, 2]; infinite where an evaluation fails."""
        losses = np.column_stack([-self.accuracy, self.costs[cost]])
        return losses if self.fails is None else np.where(self.fails[:, None], np.inf, losses)

    def reference(self, cost: str) -> np.ndarray:
        """Median accuracy, and 1.05 times the cost of the most accurate."""
        best = self.losses(cost)[:, 0].argmin()
        return np.array([-np.median(self.accuracy), 1.05 * self.costs[cost][best]])


@dataclass(frozen=True)
class Evaluation:
    """An evaluator of one problem with one cost, which it also knows in advance if `knows`."""

    problem: Problem
    cost: str
    knows: bool = True
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        row = self.problem.row(architecture)
        noise = self.problem.noise * self.rng.normal() if self.problem.noise else 0.0
        return {"accuracy": float(self.problem.accuracy[row]) + noise, **self.cheap(architecture)}

    def cheap(self, architecture: Architecture) -> Mapping[str, float]:
        return {self.cost: float(self.problem.costs[self.cost][self.problem.row(architecture)])}


def hypervolume(losses: np.ndarray, reference: np.ndarray) -> float:
    """Of the points that are better than the reference in everything."""
    inside = losses[(losses < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def fractions(problem: Problem, cost: str, visited: list[int]) -> np.ndarray:
    """After every evaluation, the hypervolume of its front as a share of that of the whole table."""
    losses, reference = problem.losses(cost), problem.reference(cost)
    whole, front, shares = hypervolume(losses, reference), np.zeros((0, 2)), []
    for point in losses[visited]:
        if (point < reference).all() and not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(front >= point).all(axis=1)], point])
        shares.append(hypervolume(front, reference) / whole)
    return np.array(shares)


def macro() -> Problem:
    """NAS-Bench-Macro: 8 layers of 3 choices, CIFAR-10, mean of three seeds."""
    with np.load(MACRO_FILE) as table:
        choices, accuracy = table["choice"].tolist(), table["test_acc"].mean(axis=1, dtype=float)
        costs = {name: table[name].astype(float) for name in ("params", "flops")}
    space = Space("nbmacro", tuple(Gene(f"layer{at}", (0, 1, 2), ordered=True) for at in range(8)))
    return Problem("nbmacro", space, {tuple(row): at for at, row in enumerate(choices)}, accuracy, costs)


def cells(seed: int = 0, unlearnable: float = 0.3, noise: float = 0.0) -> Problem:
    """Cells of six edges with five ops each: paths, interactions of pairs, cells that are cut in two."""
    rng = np.random.default_rng(seed)
    choices = np.array(list(itertools.product(range(5), repeat=6)))
    quality = np.array([0, 0.25, 0.75, 1.0, 0.15]) + np.array([0, *rng.normal(0, 0.05, 4)])
    weights = rng.uniform(0.6, 1.4, 6)
    flow, reached = np.zeros((len(choices), 4)), np.zeros((len(choices), 4), bool)
    flow[:, 0], reached[:, 0] = 1.0, True
    for edge, (start, end) in enumerate(EDGES):
        ops = choices[:, edge]
        flow[:, end] += weights[edge] * quality[ops] * flow[:, start]
        reached[:, end] |= (ops > 0) & reached[:, start]
    pairs = sum(
        rng.normal(0, 0.12, (5, 5))[choices[:, a], choices[:, b]]
        for a, b in itertools.combinations(range(6), 2)
    )
    shortcut = 0.8 * ((choices[:, 3] == 1) | (choices[:, 1] == 1))
    luck = rng.normal(0, unlearnable, len(choices))
    accuracy = 94.5 - 12 * np.exp(-1.2 * flow[:, 3]) + pairs + shortcut + luck
    accuracy = np.where(reached[:, 3], accuracy, 10 + rng.random(len(choices)))
    weight = np.array([0, 0, 1.0, 9.0, 0])[choices].sum(axis=1)
    slow = np.array([0, 0.05, 0.5, 1.1, 0.7])[choices] * rng.uniform(0.8, 1.2, 6)
    fused = -0.2 * ((choices[:, 5] == 3) & (choices[:, 4] == 3)) + 0.3 * (
        (choices[:, 0] == 4) & (choices[:, 2] == 3)
    )
    latency = (1 + slow.sum(axis=1) + fused) * (1 + rng.normal(0, 0.01, len(choices)))
    space = Space(f"cells{seed}", tuple(Gene(f"edge{a}{b}", OPS) for a, b in EDGES))
    rows = {tuple(OPS[at] for at in row): number for number, row in enumerate(choices)}
    costs = {"params": 0.07 + 0.03 * weight, "latency": latency}
    return Problem(space.name, space, rows, accuracy, costs, noise)


def networks(seed: int = 0, unlearnable: float = 0.12, noise: float = 0.0) -> Problem:
    """Three stages of one or two layers, with widths, ops and a resolution: 197,000 conditional networks."""
    rng = np.random.default_rng(seed)
    genes = [Gene("resolution", (24, 28, 32), ordered=True)]
    for stage in range(3):
        genes += [
            Gene(f"stage{stage}.depth", (1, 2), ordered=True),
            Gene(f"stage{stage}.width", (16, 24, 32), ordered=True),
            Gene(f"stage{stage}.0.op", ("static", "dynamic", "se")),
            Gene(f"stage{stage}.1.op", ("static", "dynamic", "se"), ((f"stage{stage}.depth", (2,)),)),
        ]
    space = Space(f"networks{seed}", tuple(genes))
    architectures = list(enumerate_all(space))
    worth = rng.uniform(0.5, 1.5, 6)
    found = np.array([_network(architecture, worth) for architecture in architectures])
    accuracy = 92 - 25 * np.exp(-0.45 * found[:, 0]) + rng.normal(0, unlearnable, len(found))
    latency = found[:, 2] * (1 + rng.normal(0, 0.01, len(found)))
    rows = {tuple(architecture.values()): at for at, architecture in enumerate(architectures)}
    return Problem(space.name, space, rows, accuracy, {"macs": found[:, 1], "latency": latency}, noise)


def _network(architecture: Architecture, worth: np.ndarray) -> tuple[float, float, float]:
    """Capacity, multiply-adds and latency."""
    gain = {"static": 0.0, "dynamic": 0.35, "se": 0.2}
    resolution = float(architecture["resolution"])
    capacity, macs, latency, before = 2.4 * np.log(resolution / 24), 0.0, 0.3, 16.0
    for stage in range(3):
        width = float(architecture[f"stage{stage}.width"])
        for layer in range(int(architecture[f"stage{stage}.depth"])):
            op = str(architecture[f"stage{stage}.{layer}.op"])
            added = 0.8 * np.log(width / 16) + 0.5 + gain[op] * (1.5 if stage == 2 else 1.0)
            capacity += worth[2 * stage + layer] * added
            work = before * width * (resolution / 2**stage) ** 2 / 1e5
            macs += work * (1.0 if op == "static" else 1.02)
            latency += 0.5 * work * (1.25 if op == "dynamic" else 1.0)
            latency += {"static": 0.03, "dynamic": 0.15, "se": 0.08}[op]
            before = width
    return capacity, macs, latency


def device_cells(seed: int, device: str) -> Problem:
    """Cells of six edges whose accuracies crowd at the top, timed on a made-up device.

    As in tables of trained cells: a tenth fail at chance, most lie within a few points of the best, and what
    decides among them is small. Latency follows the device: `parallel` by the longest path and launches,
    `scalar` by arithmetic, `memory` by pooling and by how much is alive, `steps` in few distinct values;
    with `dear` it is arithmetic, too, and the most accurate cells are nearly the slowest.
    """
    rng = np.random.default_rng([seed, 17])
    choices = np.array(list(itertools.product(range(5), repeat=6)))
    reached, leaves = connected(choices)
    gain = np.array([0.0, 0.22, 0.8, 1.0, 0.3]) * rng.uniform(0.8, 1.2, 5)
    weights = rng.uniform(0.5, 1.5, 6)
    used = reached & leaves
    drive = (weights * gain[choices] * used).sum(axis=1)
    convolved = ((choices >= 2) & (choices <= 3) & used).sum(axis=1)
    shortcut = ((choices == 1) & used)[:, 3]
    pairs = sum(
        (rng.normal(0, 0.2, (5, 5))[choices[:, a], choices[:, b]] * used[:, a] * used[:, b])
        for a, b in itertools.combinations(range(6), 2)
    )
    top, depth = rng.uniform(50, 94), rng.uniform(10, 30)
    bend = 0.15 if device == "dear" else rng.uniform(0.3, 0.8)
    accuracy = (
        top - depth * np.exp(-bend * (drive + rng.choice([0.4, 1.0]) * pairs)) + 0.02 * depth * shortcut
    )
    accuracy -= 0.35 * depth * (convolved == 0) * rng.uniform(0.5, 1.0, len(choices))
    accuracy += rng.normal(0, rng.choice([0.01, 0.03]) * depth, len(choices))
    accuracy = np.where(used.any(axis=1), accuracy, 10 + rng.random(len(choices)) * 0.1)
    latency = _cell_latency(choices, used, device, rng)
    space = Space(f"cells-{device}{seed}", tuple(Gene(f"edge{a}{b}", OPS) for a, b in EDGES))
    rows = {tuple(OPS[at] for at in row): number for number, row in enumerate(choices)}
    return Problem(space.name, space, rows, accuracy, {"latency": latency})


def connected(choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[cells, edges] bool each: whether an edge gets the input, and whether the output gets the edge."""
    start, end = np.zeros((len(choices), 4), bool), np.zeros((len(choices), 4), bool)
    start[:, 0], end[:, 3] = True, True
    for edge, (a, b) in enumerate(EDGES):
        start[:, b] |= (choices[:, edge] > 0) & start[:, a]
    for edge in (5, 4, 3, 2, 1, 0):
        a, b = EDGES[edge]
        end[:, a] |= (choices[:, edge] > 0) & end[:, b]
    present = choices > 0
    begins = np.stack([start[:, a] for a, _ in EDGES], axis=1)
    ends = np.stack([end[:, b] for _, b in EDGES], axis=1)
    return present & begins, present & ends


def _cell_latency(choices: np.ndarray, used: np.ndarray, device: str, rng: np.random.Generator) -> np.ndarray:
    jitter = 1 + rng.normal(0, 0.015, len(choices))
    if device == "parallel":
        each = np.array([0.0, 0.05, 1.0, 1.3, 0.8])[choices] * used
        path = np.zeros((len(choices), 4))
        for edge, (a, b) in enumerate(EDGES):
            path[:, b] = np.maximum(path[:, b], path[:, a] + each[:, edge])
        return (2.0 + path[:, 3] + 0.45 * (each > 0.1).sum(axis=1)) * jitter
    if device == "memory":
        each = np.array([0.0, 0.35, 0.5, 0.8, 1.6])[choices] * used * rng.uniform(0.7, 1.3, 6)
        alive = used[:, :3].sum(axis=1) * used[:, 3:].sum(axis=1)
        return (1.0 + each.sum(axis=1) + 0.12 * alive) * jitter
    each = np.array([0.0, 0.02, 0.35, 2.2, 0.25])[choices] * used * rng.uniform(0.9, 1.1, 6)
    total = 1.5 + each.sum(axis=1)
    return np.round(total * 2) / 2 if device == "steps" else total * jitter


def epistatic(seed: int, genes: int = 8, values: int = 4, reach: int = 3) -> Problem:
    """Kauffman's NK model: what a gene is worth depends on `reach` other genes."""
    rng = np.random.default_rng([seed, 23])
    choices = np.array(list(itertools.product(range(values), repeat=genes)))
    score = np.zeros(len(choices))
    for gene in range(genes):
        others = rng.choice([at for at in range(genes) if at != gene], reach, replace=False)
        table = rng.random(values ** (reach + 1))
        index = choices[:, gene].copy()
        for at in others:
            index = index * values + choices[:, at]
        score += table[index]
    accuracy = 60 + 30 * (score - score.min()) / (score.max() - score.min())
    price = np.sort(rng.lognormal(0, 0.6, (genes, values)), axis=1)
    cost = sum(price[gene][choices[:, gene]] for gene in range(genes)) * (
        1 + rng.normal(0, 0.02, len(choices))
    )
    return _texts(f"epistatic{seed}", choices, accuracy, {"cost": cost})


def _texts(name: str, choices: np.ndarray, accuracy: np.ndarray, costs: Mapping[str, np.ndarray]) -> Problem:
    """A problem over genes of unordered values."""
    counts = choices.max(axis=0) + 1
    genes = tuple(Gene(f"gene{at}", tuple("abcdefgh"[:count])) for at, count in enumerate(counts))
    rows = {tuple("abcdefgh"[at] for at in row): number for number, row in enumerate(choices.tolist())}
    return Problem(name, Space(name, genes), rows, accuracy, costs)


def smooth(seed: int, plateaus: bool = False, related: bool = True) -> Problem:
    """Six numbers of seven values each: concave returns, with plateaus or with a cost of its own if asked."""
    rng = np.random.default_rng([seed, 29])
    choices = np.array(list(itertools.product(range(7), repeat=6)))
    size = choices / 6
    worth, bend = rng.dirichlet(np.ones(6)), rng.uniform(1.0, 4.0, 6)
    score = (worth * (1 - np.exp(-bend * size)) / (1 - np.exp(-bend))).sum(axis=1)
    balance = np.abs(size[:, :3].sum(axis=1) - size[:, 3:].sum(axis=1))
    accuracy = 65 + 25 * score - 3 * balance + rng.normal(0, 0.15, len(choices))
    if related:
        cost = (1 + 4 * size[:, 0]) * (1 + 3 * size[:, 1]) * (1 + size[:, 2:] @ rng.uniform(0.5, 3, 4))
    else:
        cost = 5 + np.sin(6 * size @ rng.normal(0, 1, 6)) + size @ rng.normal(0, 1.0, 6)
    if plateaus:
        accuracy, cost = np.round(accuracy * 2) / 2, np.round(cost * 2) / 2
    name = f"{'plateaus' if plateaus else 'smooth' if related else 'unrelated'}{seed}"
    space = Space(name, tuple(Gene(f"size{at}", tuple(range(1, 8)), ordered=True) for at in range(6)))
    rows = {tuple(at + 1 for at in row): number for number, row in enumerate(choices.tolist())}
    return Problem(name, space, rows, accuracy, {"cost": cost - cost.min() + 1.0})


def failing(problem: Problem, seed: int, share: float = 0.3) -> Problem:
    """The problem with pairs of values of two genes that cannot be evaluated, until `share` of it is such."""
    rng = np.random.default_rng([seed, 41])
    architectures = list(problem.rows)
    fails = np.zeros(len(architectures), bool)
    genes = problem.space.genes
    # Behind a conditional gene the place of a value in the row is not fixed.
    fixed = next((at for at, gene in enumerate(genes) if gene.condition), len(genes))
    places = [at for at, gene in enumerate(genes[:fixed]) if len(gene.values) > 1]
    values = [np.array([str(row[at]) for row in architectures]) for at in places]
    while fails.mean() < share:
        first, second = rng.choice(len(places), 2, replace=False)
        one, other = rng.choice(values[first]), rng.choice(values[second])
        fails |= (values[first] == one) & (values[second] == other)
    return replace(problem, name=f"failing-{problem.name}", fails=fails)
