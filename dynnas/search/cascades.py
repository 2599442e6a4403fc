"""Chains of two or three networks, scored for every useful threshold from the predictions of each network.

Nothing is run: an image's way through a chain is known from the confidence that each network has in it, so
quality and cost of a chain are sums over images. Plain numpy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dynnas.latency.cascades import Overhead
from dynnas.pareto.contribution import non_dominated

GRID = 40
"""Number of thresholds that are tried for each network of a chain of three."""


@dataclass(frozen=True)
class PredictionMatrix:
    """Predictions of several networks for the same images, with the cost of each image in each network.

    Attributes:
        confidence: (networks, images) float32, as the task says it.
        right: (networks, images) float64, how good an answer is, from 0 to 1 (right).
        cost: (networks, images) float64.
        size: (networks,), height and width of the images that they take.
        overhead: of chains.
    """

    confidence: np.ndarray
    right: np.ndarray
    cost: np.ndarray
    size: tuple[tuple[int, int], ...]
    overhead: Overhead

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def images(self) -> int:
        """Return the number of images."""
        return self.confidence.shape[1]

    def extra(self, members: Sequence[int]) -> list[float]:
        """Return the overhead of each network in a chain over its cost alone."""
        mixed = len({self.size[member] for member in members}) > 1
        resize = [self.overhead.resize[member] if mixed else 0.0 for member in members]
        later = [0.0, *(self.overhead.later[member] for member in members[1:])]
        return [one + other for one, other in zip(resize, later, strict=True)]


@dataclass(frozen=True)
class CascadeCandidates:
    """Chains of one length that may join a front, a row each.

    Attributes:
        members: (chains, length) int, into the pool.
        thresholds: (chains, length - 1) float32: an image leaves from this confidence on.
        quality, cost: (chains,) means over the images.
    """

    members: np.ndarray
    thresholds: np.ndarray
    quality: np.ndarray
    cost: np.ndarray

    def __len__(self) -> int:
        return len(self.cost)

    def __getitem__(self, rows: np.ndarray) -> CascadeCandidates:
        return CascadeCandidates(
            self.members[rows], self.thresholds[rows], self.quality[rows], self.cost[rows]
        )

    @property
    def points(self) -> np.ndarray:
        """Return qualities and costs, (chains, 2)."""
        return np.stack([self.quality, self.cost], axis=1)

    @staticmethod
    def joined(chains: Sequence[CascadeCandidates]) -> CascadeCandidates:
        """Join chains of one length."""
        columns = ("members", "thresholds", "quality", "cost")
        return CascadeCandidates(
            *(np.concatenate([getattr(one, name) for one in chains]) for name in columns)
        )


def useful_thresholds(confidence: np.ndarray) -> np.ndarray:
    """Return every threshold that splits images of these confidences (N,) differently, the highest first.

    Each lies between two neighbours, so that rounding elsewhere moves no image; all images leave below the
    last of them.
    """
    values = np.unique(confidence)[::-1].astype(np.float64)
    middle = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    # Two neighbours among the floats have nothing between them.
    return np.where(middle > values[1:].astype(np.float32), middle, values[:-1].astype(np.float32))


def score_chain(
    pool: PredictionMatrix, members: Sequence[int], thresholds: Sequence[float]
) -> tuple[np.ndarray, ...]:
    """Score one chain, image by image.

    Returns:
        right: (images,) float64, from 0 to 1. cost: (images,). stage: (images,) int, which network of the
            chain answers.
    """
    last = len(members) - 1
    stage = np.full(pool.images, last)
    for place in reversed(range(last)):
        stage[pool.confidence[members[place]] >= np.float32(thresholds[place])] = place
    passed = pool.cost[list(members)] + np.array(pool.extra(members))[:, None]
    every = np.arange(pool.images)
    cost = passed.cumsum(axis=0)[stage, every] + np.where(stage < last, pool.overhead.leave, 0.0)
    return pool.right[np.array(members)[stage], every], cost, stage


def pair_chains(pool: PredictionMatrix, first: int, second: int) -> CascadeCandidates:
    """Score a pair at every useful threshold.

    Thresholds that send no image to one of the two are left out.
    """
    confidence = pool.confidence[first]
    order = np.argsort(-confidence, kind="stable")
    thresholds = useful_thresholds(confidence)
    leaving = np.searchsorted(-confidence[order], -thresholds, side="right")

    def beyond(values: np.ndarray) -> np.ndarray:
        """Return the sum over the images that go on, for each threshold."""
        return values.sum() - np.concatenate([[0], values[order].cumsum()])[leaving]

    going = pool.images - leaving
    right = pool.right[first].sum() - beyond(pool.right[first]) + beyond(pool.right[second])
    here, there = pool.extra((first, second))
    cost = pool.cost[first].sum() + here * pool.images + beyond(pool.cost[second])
    cost = cost + going * there + leaving * pool.overhead.leave
    members = np.broadcast_to([first, second], (len(thresholds), 2))
    return CascadeCandidates(members, thresholds[:, None], right / pool.images, cost / pool.images)


def triple_chains(pool: PredictionMatrix, first: int, second: int, grid: int = GRID) -> CascadeCandidates:
    """Score all triples that begin with these two, at all combinations of `grid` thresholds of each."""
    images, leave = pool.images, pool.overhead.leave
    steps = [_grid(pool.confidence[member], grid) for member in (first, second)]
    # An image stays at threshold j of the first network, counted from the lowest, if its bin is at most j.
    bins = [
        np.searchsorted(values, pool.confidence[member], side="right")
        for member, values in zip((first, second), steps, strict=True)
    ]
    shape = tuple(len(values) + 1 for values in steps)
    flat = bins[0] * shape[1] + bins[1]
    order = np.argsort(flat, kind="stable")
    filled, starts = np.unique(flat[order], return_index=True)

    def staying(values: np.ndarray) -> np.ndarray:
        """Return sums of (rows, images) over the images with at most this bin in both: (rows, bins, bins)."""
        sums = np.zeros((len(values), shape[0] * shape[1]), values.dtype)
        sums[:, filled] = np.add.reduceat(values[:, order], starts, axis=1)
        return sums.reshape(len(values), *shape).cumsum(axis=1).cumsum(axis=2)

    right, cost = staying(pool.right.astype(np.float64)), staying(pool.cost)
    count = staying(np.ones((1, images), np.int64))[0]
    on, end = slice(None, -1), slice(-1, None)
    # Beyond the first network, and beyond the second.
    some, few = count[on, end], count[on, on]
    thirds = [third for third in range(len(pool)) if third not in (first, second)]
    found = []
    for third in thirds:
        extra = pool.extra((first, second, third))
        hits = (
            pool.right[first].sum() - right[first][on, end]
            + right[second][on, end] - right[second][on, on] + right[third][on, on]
        )  # fmt: skip
        spent = pool.cost[first].sum() + cost[second][on, end] + cost[third][on, on]
        spent = spent + images * extra[0] + some * extra[1] + few * extra[2] + (images - few) * leave
        values = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2)
        members = np.broadcast_to([first, second, third], (len(values), 3))
        chains = CascadeCandidates(members, values, hits.ravel() / images, spent.ravel() / images)
        found.append(_best(chains))
    return CascadeCandidates.joined(found)


def best_chains(pool: PredictionMatrix, size: int, grid: int = GRID) -> list[CascadeCandidates]:
    """Return the pairs and, for `size` 3, the triples that no other chain of their length dominates.

    Args:
        pool: of two networks or more.
        size: networks in the longest chain: 2 or 3.
        grid: as of `triple_chains`.
    """
    pairs = list(itertools.permutations(range(len(pool)), 2))
    found = [[pair_chains(pool, *pair) for pair in pairs]]
    if size > 2 and len(pool) > 2:
        found.append([triple_chains(pool, *pair, grid) for pair in pairs])
    return [_best(CascadeCandidates.joined([_best(chains) for chains in each])) for each in found]


def _grid(confidence: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` useful thresholds with about as many images between any two, ascending."""
    thresholds = useful_thresholds(confidence)
    if len(thresholds) <= count:
        return thresholds[::-1]
    leaving = np.searchsorted(np.sort(-confidence), -thresholds, side="right")
    wanted = np.linspace(0, len(confidence), count + 2)[1:-1]
    return thresholds[np.unique(np.searchsorted(leaving, wanted).clip(0, len(thresholds) - 1))][::-1]


def _best(chains: CascadeCandidates) -> CascadeCandidates:
    return chains[non_dominated(chains.points)] if len(chains) else chains
