"""The latency meter: networks timed in rounds with fixed anchors, so that times taken apart still compare.

The speed of a processor that others also use drifts by tens of percent within seconds. What runs in the
same round sees the same speed, so a network's time is steady as a multiple of the anchors' time in that
round, and the median over rounds leaves out those in which either was interrupted. That ratio, times what
the anchors took when the study started, is the latency.

Chosen by trial: 16 networks of 0.2 to 1.1 ms, timed one at a time for 0.4 s in ONNX Runtime on a busy
machine of two cores, seven times over; mean rank correlation of two passes, and spread of one network's
times:

    plain median                         0.91    15%
    10th percentile                      0.93    14%
    10th percentile / the anchors'       0.994    3.8%
    median of each round's ratio         0.996    2.8%
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.measure.environment import environment_fingerprint
from dynnas.measure.latency import AnchorReference, Latency, Spread
from dynnas.measure.lock import device_lock
from dynnas.runtime import Runner
from dynnas.space.settings import TargetSettings

LEAST_ROUNDS = 20
LEAST_RUNS_OF_AN_IMAGE = 3
"""However slow the network and short the time."""

WARM_UP_CHUNK = 5
WARM_UP_SHARE = 0.25
"""Of the time for a network, at most, spent before timing."""


@dataclass(frozen=True)
class Subject:
    """Something to time: a runner and the images, each (1, C, R, R) float32, that it runs one by one.

    Give one image where the work is the same for all, and many real ones where it depends on the image.
    """

    runner: Runner
    images: Sequence[np.ndarray]


class LatencyMeter:
    """Times networks on one device, against anchors.

    Args:
        target: the device, and `seconds` to spend on each network.
        anchors: networks that never change; see `build_anchors`.
        reference: the scale; measured now if not given. Save it to continue a study on the same scale.
        lock_folder: where the device's lock lies, see `device_lock`.
        clock: seconds, monotonic.

    Raises:
        TargetError: the target cannot be used on this machine.
    """

    def __init__(
        self,
        target: TargetSettings,
        anchors: Sequence[Subject],
        reference: AnchorReference | None = None,
        lock_folder: Path | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target = target
        self._anchors = tuple(anchors)
        self._lock_folder = lock_folder
        self._clock = clock
        self._environment = environment_fingerprint(target)["digest"]
        self.reference = reference or self._measure_reference()

    def measure(self, subject: Subject) -> Latency:
        """Time one network, for `target.seconds` or a few runs of each image, whichever is longer."""
        return self.measure_jointly([subject])[0]

    def measure_jointly(self, subjects: Sequence[Subject], seed: int = 0) -> list[Latency]:
        """Time networks in the same rounds, shuffled anew each round: the most exact way to rank them.

        Networks push each other out of the processor's caches, so these times are longer than those of
        `measure`.
        """
        count = len(subjects)
        times = self._time_rounds([*subjects, *self._anchors], self._target.seconds * count, seed)
        anchors = _geometric_mean(times[count:])
        return [
            self._latency(subject, ms, anchors) for subject, ms in zip(subjects, times[:count], strict=True)
        ]

    def _measure_reference(self) -> AnchorReference:
        times = self._time_rounds(self._anchors, self._target.seconds, seed=0)
        low_ms = np.percentile(times, 10, axis=1)
        return AnchorReference(float(_geometric_mean(low_ms)), self._environment)

    def _latency(self, subject: Subject, ms: np.ndarray, anchors: np.ndarray) -> Latency:
        ratios, images = ms / anchors, len(subject.images)
        # Round r ran image r % images.
        by_image = np.array([np.median(ratios[image::images]) for image in range(images)])
        image_ms = by_image * self.reference.anchor_ms
        return Latency(
            mean_ms=float(image_ms.mean()),
            median_ms=float(np.median(image_ms)),
            p95_ms=float(np.percentile(image_ms, 95)),
            worst_ms=float(image_ms.max()),
            ratio=float(by_image.mean()),
            repeats=Spread.of(ms),
            runs=len(ms),
            environment=self._environment,
        )

    def _time_rounds(self, subjects: Sequence[Subject], seconds: float, seed: int) -> np.ndarray:
        """Milliseconds (subjects, rounds)."""
        order = list(range(len(subjects)))
        shuffle = random.Random(seed).shuffle
        least = max(LEAST_ROUNDS, LEAST_RUNS_OF_AN_IMAGE * max(len(subject.images) for subject in subjects))
        rounds: list[list[float]] = []
        with device_lock(self._target.device, self._lock_folder), _no_collection():
            for subject in subjects:
                self._warm_up(subject)
            end = self._clock() + seconds
            while len(rounds) < least or self._clock() < end:
                shuffle(order)
                times = [0.0] * len(subjects)
                for index in order:
                    times[index] = self._time(subjects[index], len(rounds))
                rounds.append(times)
        return np.array(rounds).T * 1e3

    def _warm_up(self, subject: Subject) -> None:
        """Run until a few runs are no longer faster than the few before, or time is up."""
        end = self._clock() + WARM_UP_SHARE * self._target.seconds
        before = math.inf
        while True:
            now = float(np.median([self._time(subject, turn) for turn in range(WARM_UP_CHUNK)]))
            if now > 0.97 * before or self._clock() > end:
                return
            before = now

    def _time(self, subject: Subject, turn: int) -> float:
        image = subject.images[turn % len(subject.images)]
        start = self._clock()
        subject.runner(image)
        return self._clock() - start


def _geometric_mean(times: np.ndarray) -> np.ndarray:
    """Over the first axis: a slow anchor weighs no more than a fast one."""
    return np.exp(np.log(times).mean(axis=0))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, whose pauses would fall on whichever network happens to run."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
