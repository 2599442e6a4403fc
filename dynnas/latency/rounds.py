"""Timing networks in rounds: every round runs each of them once, so that all see the machine at one speed."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from dynnas.latency.interval import Statistic, estimate, median_by

LEAST_ROUNDS = 20
LEAST_RUNS_OF_AN_IMAGE = 3
"""Minimum number of runs of an image, however slow the network and short the time."""

WARM_UP_CHUNK = 5
WARM_UP_SHARE = 0.25
"""Maximum share of a network's time that is spent on warming up."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Workload:
    """A benchmark: a network made ready to run, and the inputs that it runs one by one.

    Args:
        runner: takes an input; its work is finished when it returns.
        images: inputs (batch, channels, R, R) float32: one where the work is the same for all, and many real
            ones where it depends on the image.
        paths: (images,) int: those of the same number are the same work; None if that is not known.
    """

    runner: Callable[[np.ndarray], object]
    images: Sequence[np.ndarray]
    paths: np.ndarray | None = None

    @property
    def median(self) -> Statistic:
        """The median over passes, for each image."""
        return median_by(self.paths)


@dataclass(frozen=True)
class TimingPlan:
    """The plan of a measurement: how long to time.

    Attributes:
        seconds: at most, but for `LEAST_ROUNDS`.
        precision: end earlier, when half of the interval of every workload's ratio to the anchors is less
            than this part of the ratio.
        seed: shuffles each round.
    """

    seconds: float
    precision: float = 0.0
    seed: int = 0


def time_rounds(
    workloads: Sequence[Workload],
    anchors: Sequence[Workload],
    plan: TimingPlan,
    clock: Clock = time.perf_counter,
) -> np.ndarray:
    """Return milliseconds (workloads + anchors, rounds): in round r each ran its image r modulo their number.

    A timed run follows one of the same network that is not timed, as in the loop of a program that does
    nothing else; without that, tiny networks take 10 to 20% longer, as the one before has emptied the caches.
    """
    everyone = [*workloads, *anchors]
    order = list(range(len(everyone)))
    shuffle = random.Random(plan.seed).shuffle
    least = max(LEAST_ROUNDS, LEAST_RUNS_OF_AN_IMAGE * max(len(workload.images) for workload in everyone))
    rounds: list[list[float]] = []
    with _no_collection():
        for workload in everyone:
            _warm_up(workload, WARM_UP_SHARE * plan.seconds / max(1, len(workloads)), clock)
        end, look_again = clock() + plan.seconds, least
        while len(rounds) < least or clock() < end:
            shuffle(order)
            times = [0.0] * len(everyone)
            for index in order:
                _time(everyone[index], len(rounds), clock)
                times[index] = _time(everyone[index], len(rounds), clock)
            rounds.append(times)
            if plan.precision and len(rounds) == look_again:
                if _precise(np.array(rounds).T, workloads, plan.precision):
                    break
                look_again = math.ceil(1.3 * look_again)
    return np.array(rounds).T * 1e3


def ratios_to(anchors: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return times (..., rounds) as multiples of the anchors' geometric mean (anchors, rounds) in each round.

    A slow anchor weighs no more than a fast one.
    """
    return times / np.exp(np.log(anchors).mean(axis=0))


def by_pass(values: np.ndarray, images: int) -> np.ndarray:
    """Return values (rounds,) as (passes, images); an unfinished last pass is left out."""
    passes = len(values) // images
    return values[: passes * images].reshape(passes, images)


def _precise(times: np.ndarray, workloads: Sequence[Workload], precision: float) -> bool:
    ratios = ratios_to(times[len(workloads) :], times[: len(workloads)])
    return all(
        estimate(by_pass(row, len(workload.images)), workload.median).half_width <= precision
        for row, workload in zip(ratios, workloads, strict=True)
    )


def _warm_up(workload: Workload, seconds: float, clock: Clock) -> None:
    """Run until a few runs are no longer faster than the few before, or the time is up."""
    end, before = clock() + seconds, math.inf
    while True:
        now = float(np.median([_time(workload, turn, clock) for turn in range(WARM_UP_CHUNK)]))
        if now > 0.97 * before or clock() > end:
            return
        before = now


def _time(workload: Workload, turn: int, clock: Clock) -> float:
    image = workload.images[turn % len(workload.images)]
    start = clock()
    workload.runner(image)
    return clock() - start


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable the garbage collector, whose pauses would fall on any network that happens to run."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
