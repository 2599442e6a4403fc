"""Budgeted batches and anytime prediction (MSDNet, Huang 2018, section 3): accuracy against expected cost.

One trained network gives a curve: for a quota q, shares of the images proportional to q^k are meant to leave
at exit k = 1, 2, ... (the head is the last). The thresholds that do so are fitted on one split and applied to
another, whose accuracy and expected cost make a point of the curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.config.network import ExitPlace
from dynnas.nn.exits.exits import answers, sureness
from dynnas.tasks.task import Task

NEVER = 2.0
"""A threshold that no confidence reaches."""

QUOTAS = tuple(number / 20 for number in range(1, 41))
"""The quotas of the published curves."""


@dataclass(frozen=True)
class Judged:
    """The answers of every exit and of the head to some images.

    Attributes:
        sure: (exits, N), how sure each exit is of each image, from 0 to 1.
        right: (exits + 1, N), how good the answer of each exit, and at last of the head, is, from 0 to 1.
        saved: (exits + 1, N), the multiply-adds that gates save an image up to each exit; None without gates.
    """

    sure: Tensor
    right: Tensor
    saved: Tensor | None = None

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Return the accuracies of every exit and of the head over all images: anytime prediction."""
        return tuple(self.right.double().mean(dim=1).tolist())


def judge(outputs: Sequence[Tensor], exits: Sequence[ExitPlace], targets: Tensor, task: Task) -> Judged:
    """Judge `outputs` as `Network.logits` gives them, of images with these targets (N, ...)."""
    sure = [sureness(output, place.criterion) for output, place in zip(outputs, exits, strict=False)]
    right = [task.quality(output, targets) for output in answers(outputs, exits)]
    return Judged(torch.stack(sure) if sure else torch.zeros(0, len(targets)), torch.stack(right))


def quota_shares(quota: float, exits: int) -> tuple[float, ...]:
    """Return the shares of images that are to leave at each exit, then at the head; they sum to 1.

    Raises:
        ValueError: the quota is not a positive number.
    """
    if not 0 < quota < math.inf:
        raise ValueError(f"a quota is a positive number, not {quota}")
    powers = [quota**number for number in range(1, exits + 2)]
    return tuple(power / sum(powers) for power in powers)


def fit_thresholds(sure: Tensor, shares: Sequence[float]) -> tuple[float, ...]:
    """Return thresholds at which about these shares of the images leave at each exit.

    Exit by exit, of the images that are left, the surest floor(share * N) leave; those that are as sure as
    the last of them leave too, for a threshold cannot tell them apart.

    Args:
        sure: (exits, N). shares: of every exit; more (the head's) are not looked at.
    """
    left = torch.ones(sure.shape[1], dtype=torch.bool)
    thresholds = []
    for sure_here, share in zip(sure, shares, strict=False):
        here = sure_here[left]
        # A share times N may fall short of a whole number by rounding.
        wanted = min(math.floor(share * len(left) + 1e-6), len(here))
        threshold = float(here.sort(descending=True).values[wanted - 1]) if wanted else NEVER
        thresholds.append(threshold)
        left &= sure_here < threshold
    return tuple(thresholds)


@dataclass(frozen=True)
class Spent:
    """The cost of a split of images, and the accuracy reached for it.

    Attributes:
        accuracy: share of images that are labelled right.
        shares: of the images that leave at each exit, then at the head.
        macs: multiply-adds of an image in the mean, all exits passed included.
        ms: time of an image in the mean, from what each way takes; None if that is not known.
    """

    accuracy: float
    shares: tuple[float, ...]
    macs: float
    ms: float | None


def spend(
    judged: Judged,
    thresholds: Sequence[float],
    exit_macs: Sequence[int],
    way_ms: Sequence[float | None] = (),
) -> Spent:
    """Let every image leave at the first exit that is sure enough.

    Args:
        judged: the images. thresholds: of every exit.
        exit_macs: multiply-adds of leaving at each exit, then at the head, all gates open.
        way_ms: times of the same, None where unknown; none at all if nothing was timed.
    """
    reached = judged.sure >= torch.tensor(thresholds, dtype=torch.float64)[:, None]
    # The first exit reached; the head is reached by all.
    taken = torch.cat([reached, reached.new_ones(1, reached.shape[1])]).int().argmax(dim=0)
    right = judged.right.gather(0, taken[None])[0]
    shares = (torch.bincount(taken, minlength=len(exit_macs)).double() / len(taken)).tolist()
    macs = sum(share * cost for share, cost in zip(shares, exit_macs, strict=True))
    if judged.saved is not None:
        macs -= float(judged.saved.gather(0, taken[None]).mean())
    ms = None
    if way_ms and all(time is not None for time, share in zip(way_ms, shares, strict=True) if share):
        ms = sum(share * time for share, time in zip(shares, way_ms, strict=True) if time is not None)
    return Spent(float(right.double().mean()), tuple(shares), macs, ms)


@dataclass(frozen=True)
class BudgetPoint:
    """A point of the curve: thresholds fitted on `search` for a quota, and applied to `test`."""

    quota: float
    thresholds: tuple[float, ...]
    search: Spent
    test: Spent


def budget_curve(
    search: Judged,
    test: Judged,
    exit_macs: Sequence[int],
    quotas: Sequence[float] = QUOTAS,
    way_ms: Sequence[float | None] = (),
) -> tuple[BudgetPoint, ...]:
    """Return a point for each quota; arguments are those of `spend`.

    Raises:
        ValueError: a quota is not a positive number.
    """
    points = []
    for quota in quotas:
        thresholds = fit_thresholds(search.sure, quota_shares(quota, len(search.sure)))
        spent = (spend(split, thresholds, exit_macs, way_ms) for split in (search, test))
        points.append(BudgetPoint(quota, thresholds, *spent))
    return tuple(points)
