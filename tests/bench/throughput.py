"""Candidates per second: a plain loop over evaluations, a search of one process, and searches with workers.

    python tests/bench/throughput.py spaces/fashion.yaml --candidates 40 --workers 2 --ray 2

Networks are extracted from an untrained supernet, calibrated and scored on the search split, without the
clock: what takes time is what takes time in a study. The loop evaluates just the architectures that the
search with one process has found. What that search takes beside its evaluations is timed in it, for between
two runs a shared machine changes its pace. The time of workers counts from their first result, for they start
once in a study.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import torch

import dynnas
from dynnas.candidates.candidate import Extractor
from dynnas.data.load import load_data
from dynnas.language.parser import load_space
from dynnas.metrics.score import Score
from dynnas.nn.networks.cost import cost
from dynnas.progress import Progress, Task
from dynnas.search.storage.storage import open_storage
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space
from dynnas.supernet.staged import staged_supernet


@dataclass(frozen=True)
class Scoring:
    """Accuracy and MACs."""

    extractor: Extractor

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        candidate = self.extractor.candidate(architecture)
        return {**Score().measure(candidate), "macs": cost(candidate.config).macs}


class Timed:
    """The same, with the time that it takes."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self.seconds = self.processor = 0.0

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        start, processor = time.perf_counter(), time.process_time()
        found = self._scoring.evaluate(architecture)
        self.seconds += time.perf_counter() - start
        self.processor += time.process_time() - processor
        return found


class Clock(Progress):
    """When each trial was told."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        yield _Tick(self.times)


@dataclass
class _Tick(Task):
    times: list[float] = field(default_factory=list)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.times.append(time.perf_counter())


def searched(
    space: Space,
    scoring: Scoring | Timed,
    candidates: int,
    sampler: str,
    workers: int,
    folder: Path,
    ray: str | None = None,
) -> tuple[float, float, list[Architecture]]:
    """Seconds in all and processor seconds of the driver, per candidate, and what was evaluated."""
    url, clock = f"sqlite:///{folder / f'{workers} {ray}.db'}", Clock()
    start, processor = time.perf_counter(), time.process_time()
    dynnas.search(
        space, scoring, sampler=sampler, trials=candidates, storage=url, workers=workers, ray=ray,
        objectives=("accuracy", "macs"), name="bench", progress=clock,
    )  # fmt: skip
    processor = time.process_time() - processor
    trials = optuna.load_study(study_name="bench", storage=open_storage(url)).trials
    found = [space.architecture(trial.params) for trial in trials]
    if workers == 1 and ray is None:
        return (clock.times[-1] - start) / candidates, processor / candidates, found
    return (clock.times[-1] - clock.times[0]) / (candidates - 1), processor / candidates, found


def looped(scoring: Scoring, architectures: list[Architecture]) -> float:
    """Seconds per candidate."""
    start = time.perf_counter()
    for architecture in architectures:
        scoring.evaluate(architecture)
    return (time.perf_counter() - start) / len(architectures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("space", type=Path)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--sampler", default="guided")
    parser.add_argument("--workers", type=int, nargs="*", default=[2])
    parser.add_argument("--ray", type=int, nargs="*", default=[], help="actors of a cluster started here")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    space = load_space(arguments.space)
    settings = space.settings
    dataset = load_data(settings.data)
    supernet = staged_supernet(space, dataset.channels, dataset.task.outputs, experts=settings.train.experts)
    scoring = Scoring(Extractor(supernet, dataset, settings.train, settings.target))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as warm:
        searched(space, scoring, 2, arguments.sampler, 1, Path(warm))  # imports take a second, once
        run = space, scoring, arguments.candidates, arguments.sampler
        timed = Timed(scoring)
        wall, processor, found = searched(space, timed, *run[2:], 1, Path(folder))
        loop = looped(scoring, found)
        count = arguments.candidates
        print(f"{arguments.space.name}, {count} candidates, {arguments.sampler}, one thread")
        print(f"plain loop   {1 / loop:7.2f} candidates/s")
        print(
            f"1 worker     {1 / wall:7.2f} candidates/s; beside its evaluations it takes "
            f"{wall * count / timed.seconds - 1:.1%} of their time, "
            f"{processor * count / timed.processor - 1:.1%} of their processor time"
        )
        for workers in arguments.workers:
            wall, _, _ = searched(*run, workers, Path(folder))
            print(f"{workers} workers    {1 / wall:7.2f} candidates/s, {loop / wall:.2f} times the loop")
        for actors in arguments.ray:
            wall, _, _ = searched(*run, actors, Path(folder), "local")
            print(f"{actors} Ray actors {1 / wall:7.2f} candidates/s, {loop / wall:.2f} times the loop")


if __name__ == "__main__":
    main()
