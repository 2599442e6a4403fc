"""Tables of cells as a trained search space has them: accuracy follows the graph, latency the device.

A cell has six edges with one of five operations each. What is cut off by `none` does nothing, so that cells
that are the same graph are as accurate but for the seed; cells whose output is cut off stay at chance.
Accuracy saturates in how much is convolved, in depth and in width, gains by a shortcut, and loses where all
that passes is pooled; a tenth of the cells is far below the others.
"""

from __future__ import annotations

import itertools

import numpy as np

from dynnas.space.gene import Gene
from dynnas.space.space import Space
from support.problems import EDGES, OPS, Problem, connected

_SKIP, _CONV1, _CONV3, _POOL = 1, 2, 3, 4

# Best accuracy, per cent, a point of the law in per cent, and chance, of three data sets.
_DATA = {"ten": (94.3, 1.0, 10.0), "hundred": (73.5, 3.2, 1.0), "thousand": (46.8, 4.2, 0.8)}

# By device: the latency of a network without cells, of each operation, of what is alive in a cell, and the
# deviation of a measurement. `launches` and `pi` run dead edges too; `parallel` runs edges side by side.
DEVICES = {
    "launches": (6.0, (0.3, 0.05, 1.0, 1.05, 0.45), 0.0, 0.005),
    "batch": (4.0, (0.2, 0.1, 1.0, 2.2, 0.8), 0.0, 0.0025),
    "cpu": (3.0, (0.02, 0.02, 0.8, 3.0, 0.6), 0.0, 0.0075),
    "phone": (2.0, (0.0, 0.05, 0.7, 2.5, 0.5), 0.15, 0.005),
    "pi": (6.0, (0.1, 0.1, 1.0, 4.5, 1.2), 0.0, 0.01),
    "pools": (1.5, (0.0, 0.3, 0.4, 0.5, 1.6), 0.0, 0.001),
    "parallel": (1.0, (0.0, 0.25, 1.0, 1.6, 1.2), 0.0, 0.0005),
    "simulated": (1.6, (0.0, 0.02, 0.9, 4.0, 0.1), 0.0, 0.0),
    "copies": (3.0, (0.0, 0.5, 0.5, 0.7, 0.9), 0.3, 0.0125),
    "coarse": (2.0, (0.05, 0.05, 0.6, 1.6, 0.5), 0.0, 0.0),
}


def trained_cells(seed: int, data: str, device: str) -> Problem:
    """All 15,625 cells, with accuracies like those on `ten`, `hundred` or `thousand` classes."""
    choices = np.array(list(itertools.product(range(5), repeat=6)))
    reached, leaves = connected(choices)
    used = reached & leaves
    accuracy = _accuracy(choices, used, data, np.random.default_rng([seed, 31]))
    latency = _latency(choices, used, device, np.random.default_rng([seed, 37]))
    space = Space(f"trained-{device}", tuple(Gene(f"edge{a}{b}", OPS) for a, b in EDGES))
    rows = {tuple(OPS[at] for at in row): number for number, row in enumerate(choices)}
    return Problem(space.name, space, rows, accuracy, {"latency": latency})


def _accuracy(choices: np.ndarray, used: np.ndarray, data: str, rng: np.random.Generator) -> np.ndarray:
    top, point, chance = _DATA[data]
    power = np.array([0, 0, rng.uniform(0.5, 0.8), 1.0, rng.uniform(0.05, 0.2)])[choices] * used
    depth = np.maximum(_longest(power, used), 0.0)
    convolved = (((choices == _CONV1) | (choices == _CONV3)) & used).any(axis=1)
    shortcut = np.isfinite(_longest(power, used & (choices == _SKIP)))
    unpooled = np.isfinite(_longest(power, used & (choices != _POOL)))
    capacity = rng.uniform(0.35, 0.6) * power.sum(axis=1) + rng.uniform(0.5, 0.9) * depth
    capacity += rng.uniform(0.3, 0.6) * (shortcut & convolved)
    following, beside = rng.normal(0, 0.036, (5, 5)), rng.normal(0, 0.024, (5, 5))
    for first, second in ((0, 2), (0, 4), (1, 5), (2, 5)):
        both = used[:, first] & used[:, second]
        capacity += following[choices[:, first], choices[:, second]] * both
    for first, second in ((1, 2), (3, 4), (3, 5), (4, 5)):
        both = used[:, first] & used[:, second]
        capacity += (beside + beside.T)[choices[:, first], choices[:, second]] / 2 * both
    error = rng.uniform(7, 11) * np.exp(-rng.uniform(0.8, 1.1) * capacity)
    error += rng.uniform(6, 12) * ~convolved + rng.uniform(0.5, 3) * ~unpooled
    error += 0.12 * ((choices == _POOL) & used).sum(axis=1) + 0.25 * ((depth > 2.5) & ~shortcut)
    alive = used.any(axis=1)
    luck = rng.uniform(0.025, 0.05) * (1 + 0.25 * error) * rng.normal(size=len(choices))
    accuracy = top - point * (error - error[alive].min() + luck)
    bad = top - 6 * point  # what is worse comes ever closer to chance
    accuracy = np.where(
        accuracy < bad, chance + (bad - chance) * np.exp((accuracy - bad) / (bad - chance)), accuracy
    )
    return np.where(alive, accuracy, chance + 0.05 * rng.random(len(choices)))


def _latency(choices: np.ndarray, used: np.ndarray, device: str, rng: np.random.Generator) -> np.ndarray:
    base, prices, joined, noise = DEVICES[device]
    each = (np.array(prices) * np.exp(rng.normal(0, 0.15, 5)))[choices]
    if device not in ("launches", "batch", "pi"):
        each = each * used
    latency = base + each.sum(axis=1)
    if device == "parallel":
        latency = base + np.maximum(_longest(each, used), 0.0) + 0.25 * each.sum(axis=1)
    latency = latency + joined * used[:, :3].sum(axis=1) * used[:, 3:].sum(axis=1)
    if device == "coarse":
        latency = np.round(2 * latency) / 2
    if device == "pools":
        latency = np.round(8 * latency) / 8
    return latency * np.exp(noise * rng.normal(size=len(choices)))


def _longest(lengths: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[cells] the longest way from input to output along `edges`; -inf where there is none."""
    way = np.full((len(lengths), 4), -np.inf)
    way[:, 0] = 0.0
    for edge, (start, end) in enumerate(EDGES):
        longer = np.maximum(way[:, end], way[:, start] + lengths[:, edge])
        way[:, end] = np.where(edges[:, edge], longer, way[:, end])
    return way[:, 3]
