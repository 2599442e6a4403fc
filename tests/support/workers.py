"""Evaluators for the tests of pools: they are sent to other processes, which import this file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from dynnas.errors import UnavailableError
from dynnas.search.workers.pool import Job
from dynnas.space.architecture import Architecture
from support.tables import Table


class Slow(Table):
    """The table, after a number of seconds; writes down which process evaluated what."""

    def __init__(self, notes: Path, seconds: float = 0.0) -> None:
        super().__init__()
        self.notes = notes
        self.seconds = seconds

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()} {architecture.key}\n")
        time.sleep(self.seconds)
        yield from super().stages(architecture)


class Deadly(Table):
    """Kills its process over every architecture that begins with 1, 1; fails over 2, 2; has no 3, 3."""

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        first = architecture["x0"], architecture["x1"]
        if first == (1, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if first == (2, 2):
            raise ValueError("two twos")
        if first == (3, 3):
            raise UnavailableError("no threes")
        yield from super().stages(architecture)


class Heavy:
    """A worker that holds a large array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def run(self, job: Job) -> tuple[float, int]:
        """The array's sum, and bytes of memory that this process has for itself."""
        if job.name == "sleep":
            time.sleep(60)
        total = float(self.array.sum())
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
        return total, 1024 * own
