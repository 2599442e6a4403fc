"""The number of threads that torch computes with, and how these threads wait.

torch splits an operator between OpenMP threads, which by default spin while they wait for one another. On a
machine with another busy process a spinning thread keeps the thread it waits for off the processor: with
two threads on two cores a training step of small networks takes several times as long beside one busy
process as on an idle machine, and with one thread as long in either case. So three things are done here:

* `wait_passively` makes threads sleep while they wait. It must run before torch is loaded.
* `usable_cores` respects the processor affinity, the quotas of control groups and the user's own bound.
* `fastest_count` measures how many threads are fastest, and `StepThreads` and `ForwardThreads` measure again
  where that has changed.

numpy and scipy bring threads of their own, which spin likewise: `one_blas_thread` does without them.
`tests/bench/threads.py` shows the effect on an idle machine, beside a busy process and under a quota.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Clock = Callable[[], float]
"""Seconds since some moment, such as `time.perf_counter`."""

Use = Callable[[int], AbstractContextManager[None]]
"""A context manager that sets a number of threads, such as `use_threads`."""

ROUNDS = 3
"""Timed rounds over the candidates; the first of them drops clearly slow ones."""

DROP_RATIO = 2.0
"""A candidate that takes this many times as long as the fastest in the first timed round is dropped."""

GAIN = 0.9
"""More threads must take less than this part of the time: a tie keeps fewer threads."""

SLOW_RATIO = 1.5
"""Steps are slow if they take this many times as long as the fastest with the same number of threads."""

WINDOW = 8
"""Steps are slow if the fastest of this many is: a single slow step is noise, or a large network."""

_WITH_BLAS = ("numpy", "scipy.linalg", "sklearn", "torch")
"""Packages that bring linear algebra with threads of its own."""

TRIAL_SHARE = 0.03
"""Trials may take at most this part of the time."""


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP threads sleep while they wait, in this process before torch is loaded and in its children.

    A wait policy that the user has set is left alone.
    """
    if "OMP_WAIT_POLICY" not in environment and "GOMP_SPINCOUNT" not in environment:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def usable_cores(
    environment: Mapping[str, str] = os.environ,
    affinity: int | None = None,
    cgroup: Path = Path("/proc/self/cgroup"),
    root: Path = Path("/sys/fs/cgroup"),
) -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    It is the smallest of the cores of the processor affinity, the quotas of the control group and of those
    above it (rounded up), and OMP_NUM_THREADS.

    Args:
        affinity: the cores that the process may run on; None asks the system.
        cgroup: the file that names the control groups of the process.
        root: where control groups are mounted, of version 1 or 2.
    """
    bounds = [float(affinity or _affinity()), *_quotas(cgroup, root)]
    asked = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2" is for nested regions
    if asked.isdecimal() and int(asked) > 0:
        bounds.append(float(asked))
    return max(1, math.ceil(min(bounds)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(cgroup: Path, root: Path) -> Iterator[float]:
    """Yield the processor quotas, in cores, of the process's control groups and of all above them."""
    for line in (_read(cgroup) or "").splitlines():
        _, controllers, place = line.split(":", 2)
        if not controllers:
            mounts, read = (root, root / "unified"), _quota_of_version_2
        elif "cpu" in controllers.split(","):
            mounts, read = (root / controllers, root / "cpu"), _quota_of_version_1
        else:
            continue
        group = PurePosixPath(place)
        for mount in mounts:
            for above in (group, *group.parents):
                quota = read(mount / str(above).lstrip("/"))
                if quota:
                    yield quota


def _quota_of_version_2(folder: Path) -> float | None:
    quota, _, period = (_read(folder / "cpu.max") or "").strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None  # "max" is none


def _quota_of_version_1(folder: Path) -> float | None:
    quota = (_read(folder / "cpu.cfs_quota_us") or "").strip()
    period = (_read(folder / "cpu.cfs_period_us") or "").strip()
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None  # -1 is none


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:  # another system, or not readable from here
        return None


def most_threads() -> int:
    """Return the most threads that torch may use here: the usable cores, or fewer if torch is set so."""
    import torch

    return min(usable_cores(), torch.get_num_threads())


def candidate_counts(most: int) -> tuple[int, ...]:
    """Return the numbers of threads to try: 1, 2, 4 and so on, and `most`."""
    doubled = (2**power for power in range(most.bit_length()))
    return (*(count for count in doubled if count < most), most)


def one_blas_thread() -> AbstractContextManager[object]:
    """Let the linear algebra of numpy and scipy, as far as they are loaded, run in one thread inside.

    OpenBLAS splits even matrices of a hundred rows between threads that spin while they wait for one another.
    Beside busy processes the surrogates of a search take ten times as long with two of them as with one.
    """
    return _blas(sum(name in sys.modules for name in _WITH_BLAS)).limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas(loaded: int) -> ThreadpoolController:
    """Return what sets the threads, found again once more of the packages are `loaded`: that takes 8 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads inside, and restore the number at the end.

    torch has one number for the whole process, and others in it may be training with another.
    """
    import torch

    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def fastest_count(
    run: Callable[[], object],
    counts: Sequence[int],
    *,
    clock: Clock = time.perf_counter,
    use: Use | None = None,
) -> int:
    """Return the number of threads among `counts`, in ascending order, with which `run` is fastest.

    The candidates take turns, so that a busy moment is no candidate's own, and the smallest time of each
    counts. A single candidate is not timed.

    Args:
        use: how the number is set; `use_threads` if None.
    """
    times = dict.fromkeys(counts, math.inf)
    left = list(counts)
    for turn in range(1 + ROUNDS if len(counts) > 1 else 0):
        for count in left if turn % 2 else left[::-1]:
            with (use or use_threads)(count):
                start = clock()
                run()
                if turn:  # the first round warms up
                    times[count] = min(times[count], clock() - start)
        if turn == 1:
            bound = DROP_RATIO * min(times.values())
            left = [count for count in left if times[count] <= bound]
    best = counts[0]
    for count in counts[1:]:
        if times[count] < GAIN * times[best]:
            best = count
    return best


class StepThreads:
    """The number of threads of a repeated step, such as one of training.

    The number is given or measured before the first step. It is measured again where steps get slow
    compared with the fastest of before, for then the machine is shared with somebody else.

    Args:
        measure: returns the fastest number of threads now.
        count: the number to begin with.
        fixed: never measure again.
    """

    def __init__(
        self,
        measure: Callable[[], int],
        count: int,
        *,
        fixed: bool = False,
        clock: Clock = time.perf_counter,
        use: Use | None = None,
    ) -> None:
        self.count = count
        self._measure, self._fixed, self._clock, self._use = measure, fixed, clock, use or use_threads
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._fastest = math.inf
        self._wait_until = -math.inf

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run one step inside with the number of threads, and measure again if steps have become slow."""
        if self._slow():
            self._measure_again()
        with self._use(self.count):
            start = self._clock()
            yield
            self._recent.append(self._clock() - start)
        if len(self._recent) == WINDOW:
            self._fastest = min(self._fastest, *self._recent)

    def _slow(self) -> bool:
        return (
            not self._fixed
            and len(self._recent) == WINDOW
            and min(self._recent) > SLOW_RATIO * self._fastest
            and self._clock() >= self._wait_until
        )

    def _measure_again(self) -> None:
        start = self._clock()
        self.count = self._measure()
        now = self._clock()
        self._wait_until = now + (now - start) / TRIAL_SHARE
        self._recent.clear()
        self._fastest = math.inf


class ForwardThreads:
    """The number of threads of forward passes, for scores and for batch-norm statistics.

    Networks differ, so that their times tell nothing about the machine: the number is measured again after
    a while, such that measuring takes a small part of the time.
    """

    def __init__(
        self,
        *,
        most: Callable[[], int] = most_threads,
        clock: Clock = time.perf_counter,
        use: Use | None = None,
    ) -> None:
        self._most, self._clock, self._use = most, clock, use or use_threads
        self._count = 1
        self._due = -math.inf

    @contextmanager
    def running(self, trial: Callable[[], object]) -> Iterator[None]:
        """Run inside with the fastest number of threads; `trial` runs a batch, where it is measured."""
        most = self._most()
        if self._clock() >= self._due:
            start = self._clock()
            self._count = fastest_count(trial, candidate_counts(most), clock=self._clock, use=self._use)
            now = self._clock()
            self._due = now + (now - start) / TRIAL_SHARE if most > 1 else -math.inf
        with self._use(min(self._count, most)):
            yield


FORWARD_THREADS = ForwardThreads()
"""The instance of this process: the fastest number of threads depends on the machine, not on the caller."""
