"""Workers on a Ray cluster: with `cluster_training` this is all that knows Ray.

The driver alone asks the sampler, writes to the study's database and holds the device that is timed. Actors
get the evaluator's worker once, through Ray's object store, whose arrays all actors of a machine share.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from dynnas.errors import StudyError
from dynnas.progress import Progress
from dynnas.search.workers.pool import ATTEMPTS, Job, JobResult, Worker, run_job
from dynnas.search.workers.ray_environment import LOCAL, no_cluster
from dynnas.search.workers.shared_memory import pickled, reduce_tensor

if TYPE_CHECKING:
    from dynnas.training.train_supernet import Report, Training

_AHEAD = 2
"""Number of jobs that an actor is given at a time: the next one starts even while the driver times a
network.
"""

_PATIENCE_SECONDS = 30.0
"""Seconds without any run_job after which the user is told what the cluster is doing."""


@contextmanager
def open_cluster(address: str, processors: int) -> Iterator[Cluster]:
    """Open the Ray cluster at `address`, or one that is started on this machine and ends with the context.

    Args:
        address: "local" to start one; "auto" for the one that this machine is part of; or host:port.
        processors: how many are needed at least.

    Raises:
        StudyError: there is no cluster, or it has too few processors.
    """
    mine: dict[str, Any] = {"num_cpus": max(processors, os.cpu_count() or 1), "include_dashboard": False}
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(mine if address == LOCAL else {}),
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise no_cluster(address, error) from error
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < processors:
            raise StudyError(
                f"--ray: {processors} processes are wanted, but the cluster has {there} processors"
            )
        yield Cluster(there)
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Cluster:
    """The cluster that this process is connected to.

    Attributes:
        processors: of all its machines together.
    """

    processors: int

    def pool(self, worker: Worker, workers: int, progress: Progress) -> ActorPool:
        """Start `count` actors, one a processor; 0 means all processors.

        Raises:
            StudyError: the worker cannot be pickled, or there are too few processors.
        """
        if workers > self.processors:
            raise StudyError(
                f"--ray: {workers} actors are wanted, but the cluster has {self.processors} processors"
            )
        return ActorPool(worker, workers or self.processors, progress)

    def train(
        self, training: Training, folder: Path, report: Report, progress: Progress | None = None
    ) -> None:
        """Train as a `Launch`: one actor a rank, with a processor or a GPU each.

        Where a machine is lost, training goes on with the others; where one comes, with it.

        Raises:
            TrainingError: as `launch_processes`; or ranks are lost again and again, or no machine is left.
        """
        from dynnas.training.distributed.cluster import train

        train(training, folder, report, (progress or Progress()).message)


@dataclass
class _Handle:
    """One actor as the driver sees it: the calls that it has still to run_job, the running one first."""

    actor: Any
    calls: deque[tuple[Any, int, Job]] = field(default_factory=deque)
    ready: Any = None
    id: int = 0


class ActorPool:
    """Ray actors that do jobs, replaced where they die; they end with the driver however it ends."""

    def __init__(self, worker: Worker, workers: int, progress: Progress) -> None:
        self._size = workers
        self._progress = progress
        self._packed = _put(worker)
        self._backlog: deque[tuple[int, Job]] = deque()
        self._lost: dict[int, int] = {}
        self._suspects: set[int] = set()
        self._tickets = 0
        self._stillborn = 0
        self._handles = [self._spawn() for _ in range(workers)]

    @property
    def size(self) -> int:
        """Return how many jobs run at once."""
        return self._size

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the process ids of the actors that have started."""
        return tuple(handle.id for handle in self._handles if handle.ready is None)

    def submit(self, job: Job) -> int:
        """Take a job."""
        self._tickets += 1
        self._backlog.append((self._tickets, job))
        self._assign()
        return self._tickets

    def collect(self) -> JobResult:
        """Wait for the next job that is done.

        Raises:
            StudyError: actors die before their first job, or cannot unpickle the evaluator.
        """
        while True:
            self._assign()
            waiting = {
                handle.ready or handle.calls[0][0]: handle
                for handle in self._handles
                if handle.ready or handle.calls
            }
            done, _ = ray.wait(list(waiting), timeout=_PATIENCE_SECONDS)
            if not done:
                absent = sum(handle.ready is not None for handle in self._handles)
                if absent == len(self._handles):
                    self._progress.message(f"ray: waiting for the cluster to start {absent} workers")
            for reference in done:
                if found := self._receive(waiting[reference], reference):
                    return found

    def close(self) -> None:
        """Terminate all actors; running jobs are lost."""
        for handle in self._handles:
            ray.kill(handle.actor)
        self._handles = []

    def _spawn(self) -> _Handle:
        actor: Any = ray.remote(num_cpus=1, max_restarts=0)(_Actor).remote(self._packed, sys.path)
        return _Handle(actor, ready=actor.load.remote())

    def _assign(self) -> None:
        """Give jobs to the actors that have fewest; a suspect gets one for itself."""
        at_work = [handle for handle in self._handles if handle.ready is None]
        while self._backlog and at_work:
            handle = min(at_work, key=lambda handle: len(handle.calls))
            job_id, job = self._backlog[0]
            suspected = not self._suspects.isdisjoint({job_id, *(other for _, other, _ in handle.calls)})
            if len(handle.calls) >= (1 if suspected else _AHEAD):
                return
            self._backlog.popleft()
            handle.calls.append((handle.actor.run.remote(job_id, job), job_id, job))

    def _receive(self, handle: _Handle, reference: Any) -> JobResult | None:
        """Return an actor's message, if it is an run_job; actors that died are replaced."""
        try:
            said = ray.get(reference)
        except RayTaskError as error:  # not of the evaluator, whose errors are in its results
            if handle.ready:
                raise StudyError(f"ray: a worker cannot load the evaluator ({error.cause})") from error
            _, job_id, _ = handle.calls.popleft()
            return JobResult(job_id, failure=f"{type(error.cause).__name__}: {error.cause}")
        except RayError as error:
            return self._died(handle, error)
        if handle.ready:
            handle.ready, handle.id = None, said
            self._stillborn = 0
            return None
        handle.calls.popleft()
        found: JobResult = pickle.loads(said)
        self._lost.pop(found.job_id, None)
        self._suspects.discard(found.job_id)
        return found

    def _died(self, handle: _Handle, error: RayError) -> JobResult | None:
        """Replace an actor that died, and do its jobs again.

        Of two jobs either may have been running, as an answer on its way is lost with its actor. Neither has
        failed then, and each is done again by an actor that has no other: a death there is its own.
        """
        gone = isinstance(error, RayActorError)
        death = "killed, or its machine is gone" if gone else type(error).__name__
        ray.kill(handle.actor)  # where it is only out of reach
        self._handles[self._handles.index(handle)] = self._spawn()
        if handle.ready:
            self._stillborn += 1
            if self._stillborn >= ATTEMPTS:
                raise StudyError(
                    f"ray: {ATTEMPTS} workers in a row died before their first job, the last: {death}"
                )
            return None
        jobs = [(job_id, job) for _, job_id, job in handle.calls]
        self._suspects.update(job_id for job_id, _ in jobs)
        if len(jobs) != 1:
            self._backlog.extendleft(reversed(jobs))
            self._progress.message(f"a worker was lost ({death}); its jobs are tried again, each alone")
            return None
        ((job_id, job),) = jobs
        self._lost[job_id] = lost = self._lost.get(job_id, 0) + 1
        if lost >= ATTEMPTS:
            return JobResult(job_id, failure=f"LostWorker: its worker died {lost} times, the last: {death}")
        self._progress.message(
            f"a worker was lost ({death}); {job.architecture.key} is tried again, "
            f"attempt {lost + 1} of {ATTEMPTS}"
        )
        self._backlog.appendleft((job_id, job))
        return None


class _Actor:
    """The actor: it does jobs, in a process of its own somewhere."""

    def __init__(self, packed: tuple[bytes, list[np.ndarray]], path: list[str]) -> None:
        """`path` is where the driver finds modules; those of its machine are there for others on it."""
        self._packed = packed
        sys.path.extend(place for place in path if place not in sys.path)

    def load(self) -> int:
        """Take the object that does the jobs, and return the process id."""
        text, arrays = self._packed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of memory that cannot be written: nobody writes to weights here
            self._worker: Worker = pickle.loads(text, buffers=arrays)
        return os.getpid()

    def run(self, job_id: int, job: Job) -> bytes:
        """Do a job; the run_job is pickled, because arrays that Ray itself sends cannot be written to."""
        return pickle.dumps(run_job(self._worker, job_id, job))


class _Pickler(ray.cloudpickle.CloudPickler):
    """Sends along the classes of a script, which no worker could import."""

    def reducer_override(self, thing: Any) -> Any:
        reduced = reduce_tensor(thing)
        return super().reducer_override(thing) if reduced is NotImplemented else reduced


def _put(worker: Worker) -> Any:
    """Put the object into Ray's object store, its arrays apart from the pickle, so that they are mapped."""
    try:
        text, buffers = pickled(worker, _Pickler)
    except Exception as error:  # pickle raises whatever it likes
        raise StudyError(
            f"ray: the evaluator cannot be sent to other processes ({type(error).__name__}: {error}); "
            "keep open files and locks out of it"
        ) from error
    return ray.put((text, [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]))
