"""The cache of evaluations: an SQLite file that keeps each architecture's evaluation and statistics."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dynnas.errors import StorageError
from dynnas.search.evaluator import AnyEvaluator, SplitEvaluator, Steps, cheap_of, next_step, stages_of
from dynnas.search.workers.pool import Job, Worker
from dynnas.space.architecture import Architecture


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one architecture: its stages in order, and whether they are complete."""

    stages: tuple[Mapping[str, float], ...] = ()
    complete: bool = False


class Cache:
    """The cache: evaluations by architecture and provenance, and statistics by those of their network.

    A row is written again as each stage ends, so that a killed process loses only the stage it was in.

    Raises:
        StorageError: from all methods: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._in_words():
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS evaluations (architecture TEXT, provenance TEXT, stages TEXT, "
                "complete INTEGER, PRIMARY KEY (architecture, provenance))"
            )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS statistics (network TEXT, provenance TEXT, packed BLOB, "
                "PRIMARY KEY (network, provenance))"
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def read(self, architecture: Architecture, provenance: str) -> Evaluation:
        """Return the evaluation, which may be empty."""
        with self._in_words():
            row = self._connection.execute(
                "SELECT stages, complete FROM evaluations WHERE architecture = ? AND provenance = ?",
                (architecture.key, provenance),
            ).fetchone()
        return Evaluation(tuple(json.loads(row[0])), bool(row[1])) if row else Evaluation()

    def write(self, architecture: Architecture, provenance: str, evaluation: Evaluation) -> None:
        """Store `evaluation` in place of the one before."""
        stages = json.dumps([dict(stage) for stage in evaluation.stages])
        with self._in_words():
            self._connection.execute(
                "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?)",
                (architecture.key, provenance, stages, evaluation.complete),
            )

    def read_statistics(self, key: str, provenance: str) -> bytes | None:
        """Return the packed batch-norm statistics of the network of that key, or None."""
        with self._in_words():
            row = self._connection.execute(
                "SELECT packed FROM statistics WHERE network = ? AND provenance = ?", (key, provenance)
            ).fetchone()
        return row[0] if row else None

    def write_statistics(self, key: str, provenance: str, packed: bytes) -> None:
        """Store `packed` in place of what was there."""
        with self._in_words():
            self._connection.execute(
                "INSERT OR REPLACE INTO statistics VALUES (?, ?, ?)", (key, provenance, packed)
            )

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"{self._path}: {error}; nothing that is finished is lost: when that is mended, the same "
                "command continues"
            ) from error


@dataclass(frozen=True)
class StatisticsFile:
    """Batch-norm statistics in the cache of a study that another process may be driving.

    The file is open only while something is read or written. A folder that cannot be written keeps nothing.
    """

    path: Path

    def read_statistics(self, key: str, provenance: str) -> bytes | None:
        """Read statistics as `Cache.read_statistics` does; None where the file cannot be read."""
        with suppress(StorageError), closing(Cache(self.path)) as cache:
            return cache.read_statistics(key, provenance)
        return None

    def write_statistics(self, key: str, provenance: str, packed: bytes) -> None:
        """Write statistics as `Cache.write_statistics` does; nothing where the file cannot be written."""
        with suppress(StorageError), closing(Cache(self.path)) as cache:
            cache.write_statistics(key, provenance, packed)


class CachedEvaluator:
    """An evaluator that asks another one only for metrics that the cache lacks.

    `hits` counts the stages that the cache answered, `misses` those that had to be computed.
    """

    def __init__(self, evaluator: AnyEvaluator, cache: Cache, provenance: str) -> None:
        self.hits = 0
        self.misses = 0
        self.cheap = cheap_of(evaluator)
        self.cheap_metrics = getattr(evaluator, "cheap_metrics", None)
        self._evaluator = evaluator
        self._cache = cache
        self._provenance = provenance

    @property
    def worker(self) -> Worker:
        """Return the object that does the jobs of the evaluator."""
        assert isinstance(self._evaluator, SplitEvaluator)
        return self._evaluator.worker

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        """Yield the metrics stage by stage, each from the cache if it is there."""
        for step in self._steps(architecture, stages_of(self._evaluator, architecture)):
            assert not isinstance(step, Job)
            yield step

    def steps(self, architecture: Architecture) -> Steps:
        """Yield the same stages, with the jobs for those that the cache lacks."""
        assert isinstance(self._evaluator, SplitEvaluator)
        return self._steps(architecture, self._evaluator.steps(architecture))

    def _steps(self, architecture: Architecture, steps: Iterator[Mapping[str, float]] | Steps) -> Steps:
        known = self._cache.read(architecture, self._provenance)
        for stage in known.stages:
            self.hits += 1
            yield stage
        if known.complete:
            return
        done = list(known.stages)
        number = 0
        reply = None
        while (step := next_step(steps, reply)) is not None:
            reply = None
            if isinstance(step, Job):
                reply = yield step
                continue
            number += 1
            # A stage that was cut short earlier needs those before it again, but what was told of them stays.
            if number <= len(known.stages):
                continue
            self.misses += 1
            done.append(step)
            self._cache.write(architecture, self._provenance, Evaluation(tuple(done)))
            yield step
        self._cache.write(architecture, self._provenance, Evaluation(tuple(done), complete=True))
