"""The latency meter: networks timed in rounds with fixed anchors, so that times taken apart still compare.

A processor that other programs also use runs at a speed that drifts by tens of percent within a minute.
Networks that run in the same rounds see the same drift, so their *ratio* is steady where their times are
not; and a low quantile leaves out the runs that were interrupted. A network's latency is therefore the
low quantile of its times, as a multiple of the anchors' in the same rounds, times what the anchors took
when the study started.
"""

from __future__ import annotations

import gc
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.errors import StudyError
from dynnas.measure.environment import environment_fingerprint
from dynnas.measure.lock import device_lock
from dynnas.runtime import Runner
from dynnas.space.settings import TargetSettings

LOW = 10.0
"""The percentile of a network's times that stands for an undisturbed run."""

ROUNDS_AT_LEAST = 5
"""Runs of every image, however slow the network and short the time."""


@dataclass(frozen=True)
class Subject:
    """Something to time: a runner and the images, each (1, C, H, W) float32, that it runs one by one.

    Give one image for a network whose work is the same for all, many for one whose work depends on the image.
    """

    runner: Runner
    images: Sequence[np.ndarray]


@dataclass(frozen=True)
class Spread:
    """The raw times of all runs in milliseconds: how noisy the measurement was, not for ranking."""

    mean_ms: float
    median_ms: float
    low_ms: float
    p95_ms: float
    worst_ms: float
    iqr_ms: float


@dataclass(frozen=True)
class Latency:
    """What one image costs, anchored. The distribution is over images; the noise of repeated runs is apart.

    Attributes:
        mean_ms, median_ms, p95_ms, worst_ms: over the images; all four are equal where one image was timed.
        ratio: `mean_ms` as a multiple of the anchors' time.
        repeats: the raw times.
        runs, rounds: timed runs of this network, and rounds in which they were interleaved with the anchors.
        environment: digest of `environment_fingerprint`.
    """

    mean_ms: float
    median_ms: float
    p95_ms: float
    worst_ms: float
    ratio: float
    repeats: Spread
    runs: int
    rounds: int
    environment: str

    @property
    def latency_ms(self) -> float:
        """The value to rank by: the mean over images."""
        return self.mean_ms

    def to_dict(self) -> dict[str, Any]:
        """All values under their names, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class AnchorReference:
    """The scale of a study's latencies: the anchors' time when it started, and the environment."""

    anchor_ms: float
    environment: str

    def save(self, path: Path) -> None:
        """Write for `load`."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(path: Path, target: TargetSettings) -> AnchorReference:
        """Read what `save` wrote.

        Raises:
            StudyError: it was measured in another environment than this machine's for `target`.
        """
        reference = AnchorReference(**json.loads(path.read_text()))
        here = environment_fingerprint(target)["digest"]
        if reference.environment != here:
            raise StudyError(
                f"{path}: latencies were measured in environment {reference.environment}, this one is {here} "
                "(processor, threads, runtime or library versions differ), so new times would not compare; "
                "continue on the same machine and versions, or start anew with --fresh"
            )
        return reference


class LatencyMeter:
    """Times networks on one device, against anchors.

    Args:
        target: the device, and `seconds` to spend on each network.
        anchors: networks that never change; two or three are enough. See `build_anchors`.
        reference: the scale; measured now if not given. Keep it (`meter.reference.save`) to continue a study.
        lock_folder: where the device's lock lies, see `device_lock`.
        clock: seconds, monotonic.
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
        """Time networks in the same rounds, shuffled anew each round: the most exact way to rank them."""
        times, anchor_times = self._time_rounds(subjects, seed)
        anchor_ms = _anchor_ms(anchor_times)
        scale = self.reference.anchor_ms / anchor_ms
        return [self._summarise(subject, ms, scale) for subject, ms in zip(subjects, times, strict=True)]

    def _measure_reference(self) -> AnchorReference:
        _, anchor_times = self._time_rounds([], seed=0)
        return AnchorReference(_anchor_ms(anchor_times), self._environment)

    def _summarise(self, subject: Subject, ms: np.ndarray, scale: float) -> Latency:
        images = len(subject.images)
        # Round r ran image r % images.
        low = np.array([np.percentile(ms[image::images], LOW) for image in range(images)]) * scale
        return Latency(
            mean_ms=float(low.mean()),
            median_ms=float(np.median(low)),
            p95_ms=float(np.percentile(low, 95)),
            worst_ms=float(low.max()),
            ratio=float(low.mean()) / self.reference.anchor_ms,
            repeats=_spread(ms),
            runs=len(ms),
            rounds=len(ms),
            environment=self._environment,
        )

    def _time_rounds(
        self, subjects: Sequence[Subject], seed: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Milliseconds of every round for each subject, and for each anchor."""
        everyone = [*subjects, *self._anchors]
        most_images = max(len(subject.images) for subject in everyone)
        budget = self._target.seconds * max(1, len(subjects))
        order = list(range(len(everyone)))
        shuffle = random.Random(seed).shuffle
        times: list[list[float]] = [[] for _ in everyone]
        with device_lock(self._target.device, self._lock_folder), _no_collection():
            for subject in everyone:
                self._warm_up(subject, limit=self._target.seconds / 4)
            end = self._clock() + budget
            turn = 0
            while turn < ROUNDS_AT_LEAST * most_images or self._clock() < end:
                shuffle(order)
                for index in order:
                    times[index].append(self._time(everyone[index], turn))
                turn += 1
        milliseconds = [np.array(seconds) * 1e3 for seconds in times]
        return milliseconds[: len(subjects)], milliseconds[len(subjects) :]

    def _warm_up(self, subject: Subject, limit: float, chunk: int = 5) -> None:
        """Run until five runs are no longer faster than the five before, or for `limit` seconds."""
        end = self._clock() + limit
        before = math.inf
        while True:
            now = sorted(self._time(subject, turn) for turn in range(chunk))[chunk // 2]
            if now > 0.97 * before or self._clock() > end:
                return
            before = now

    def _time(self, subject: Subject, turn: int) -> float:
        image = subject.images[turn % len(subject.images)]
        start = self._clock()
        subject.runner(image)
        return self._clock() - start


def _anchor_ms(anchor_times: Sequence[np.ndarray]) -> float:
    """Geometric mean of the anchors' low quantiles, so that a slow anchor does not outweigh a fast one."""
    return math.exp(sum(math.log(np.percentile(ms, LOW)) for ms in anchor_times) / len(anchor_times))


def _spread(ms: np.ndarray) -> Spread:
    low, lower, median, upper, p95 = np.percentile(ms, [LOW, 25, 50, 75, 95])
    return Spread(
        mean_ms=float(ms.mean()),
        median_ms=float(median),
        low_ms=float(low),
        p95_ms=float(p95),
        worst_ms=float(ms.max()),
        iqr_ms=float(upper - lower),
    )


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
