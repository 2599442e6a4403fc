"""The latency meter: networks timed in rounds with fixed anchors, so that times taken apart still compare.

The speed of a processor that others also use drifts by tens of percent within seconds. What runs in the
same round sees the same speed, so a network's time is steady as a multiple of the anchors' time in that
round, and the median over rounds leaves out those in which either was interrupted. That ratio, times what
the anchors took when the study started, is the latency. How this compares with other ways to measure:
`python tests/bench/latency.py repeatability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.interval import estimate, low_quantile
from dynnas.latency.latency import AnchorReference, Latency, Spread, count_outliers
from dynnas.latency.lock import device_lock
from dynnas.latency.remote.timer import open_timer
from dynnas.latency.rounds import Clock, TimingPlan, Workload, by_pass, ratios_to, time_rounds
from dynnas.settings.settings import TargetSettings

REFERENCE_SHARE = 4
"""Time for the scale, relative to that for a network: all latencies of a study depend on it."""


class Timer(Protocol):
    """A timer of workloads in rounds, on this machine or another one."""

    def __call__(
        self, workloads: Sequence[Workload], anchors: Sequence[Workload], plan: TimingPlan
    ) -> np.ndarray:
        """Time in rounds, as `dynnas.latency.rounds.time_rounds` does."""
        ...


class LatencyMeter:
    """Times networks on one device, against anchors.

    Args:
        target: the device, and how long and how exactly to measure.
        anchors: networks that never change; see `build_anchors`.
        reference: the scale; measured now if not given. Save it to continue a study on the same scale.
        timer: runs the rounds; if not given, this machine's, one meter at a time, or the remote device's.

    Attributes:
        target: as given.

    Raises:
        TargetError: the target cannot be used on this machine.
    """

    def __init__(
        self,
        target: TargetSettings,
        anchors: Sequence[Workload],
        reference: AnchorReference | None = None,
        timer: Timer | None = None,
    ) -> None:
        self.target = target
        self._anchors = tuple(anchors)
        self._timer = timer or (open_timer(target) if target.remote else LocalTimer(target.device))
        self._environment = environment_fingerprint(target)["digest"]
        self.reference = reference or self._measure_reference()

    def measure(self, workload: Workload) -> Latency:
        """Time one network: until the interval is as narrow as the target asks, or for its seconds."""
        return self.measure_jointly([workload])[0]

    def measure_jointly(self, workloads: Sequence[Workload], seed: int = 0) -> list[Latency]:
        """Time networks in the same rounds, shuffled again in each round: the most exact way to rank them."""
        plan = TimingPlan(self.target.seconds * len(workloads), self.target.precision, seed)
        times = self._timer(workloads, self._anchors, plan)
        anchors = times[len(workloads) :]
        return [self._latency(workload, ms, anchors) for workload, ms in zip(workloads, times, strict=False)]

    def time(self, workloads: Sequence[Workload], plan: TimingPlan) -> np.ndarray:
        """Time many networks at once: medians (workloads,) over rounds, as multiples of the anchors' time."""
        times = self._timer(workloads, self._anchors, plan)
        return np.median(ratios_to(times[len(workloads) :], times[: len(workloads)]), axis=1)

    def measure_images(
        self, workloads: Sequence[Workload], seconds: float, seed: int = 0
    ) -> list[tuple[Latency, np.ndarray]]:
        """Time networks in the same rounds for all of `seconds`: latencies, and the ms of each image."""
        times = self._timer(workloads, self._anchors, TimingPlan(seconds, seed=seed))
        anchors = times[len(workloads) :]
        measured = []
        for workload, ms in zip(workloads, times, strict=False):
            image_ms = workload.median(self._ratios(workload, ms, anchors), 0) * self.reference.anchor_ms
            measured.append((self._latency(workload, ms, anchors), image_ms))
        return measured

    def measure_rounds(self, workloads: Sequence[Workload], seconds: float, seed: int = 0) -> np.ndarray:
        """Time networks in the same rounds for all of `seconds`: ms of every round, (workloads, rounds).

        Workloads of the same images run the same one in a round. So the difference between networks can be
        taken round by round: its median hardly moves where each network's own time does.
        """
        times = self._timer(workloads, self._anchors, TimingPlan(seconds, seed=seed))
        anchors = times[len(workloads) :]
        return ratios_to(anchors, times[: len(workloads)]) * self.reference.anchor_ms

    def _measure_reference(self) -> AnchorReference:
        plan = TimingPlan(REFERENCE_SHARE * self.target.seconds)
        times = self._timer((), self._anchors, plan)
        low_ms = np.quantile(times, 0.1, axis=1)
        return AnchorReference(float(np.exp(np.log(low_ms).mean())), self._environment)

    def _latency(self, workload: Workload, ms: np.ndarray, anchors: np.ndarray) -> Latency:
        images = len(workload.images)
        ratios = self._ratios(workload, ms, anchors)
        image_ms = workload.median(ratios, 0) * self.reference.anchor_ms
        ratio = estimate(ratios, workload.median)
        return Latency(
            mean_ms=float(image_ms.mean()),
            median_ms=float(np.median(image_ms)),
            p95_ms=float(np.percentile(image_ms, 95)),
            worst_ms=float(image_ms.max()),
            interval_ms=ratio.scaled(self.reference.anchor_ms).interval,
            ratio=ratio.value,
            plain_median_ms=estimate(by_pass(ms, images), workload.median),
            plain_low_ms=estimate(by_pass(ms, images), low_quantile),
            repeats=Spread.of(ms),
            rounds=len(ms),
            outliers=count_outliers(ratios),
            environment=self._environment,
        )

    @staticmethod
    def _ratios(workload: Workload, ms: np.ndarray, anchors: np.ndarray) -> np.ndarray:
        """Return the times as multiples of the anchors': (passes, images)."""
        return by_pass(ratios_to(anchors, ms), len(workload.images))


class LocalTimer:
    """Times in rounds on this machine, while no other meter in any process uses the device.

    Args:
        device: as in `TargetSettings.device`.
        lock_folder: where the device's lock lies, see `device_lock`.
        clock: seconds, monotonic; the default is `time.perf_counter`.
    """

    def __init__(self, device: str, lock_folder: Path | None = None, clock: Clock | None = None) -> None:
        self._device, self._lock_folder = device, lock_folder
        self._clock = {"clock": clock} if clock else {}

    def __call__(
        self, workloads: Sequence[Workload], anchors: Sequence[Workload], plan: TimingPlan
    ) -> np.ndarray:
        """Time in rounds, as `Timer` says."""
        with device_lock(self._device, self._lock_folder):
            return time_rounds(workloads, anchors, plan, **self._clock)
