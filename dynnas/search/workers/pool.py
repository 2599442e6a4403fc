"""The contract of a pool of workers: they do the parts of evaluations that any process can do.

One process, the driver, asks the sampler, tells the study, and holds the device that is timed. What is left
of an evaluation, such as accuracy, it hands out as jobs. A pool is the workers that do them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dynnas.errors import StudyError, UnavailableError
from dynnas.space.architecture import Architecture

ATTEMPTS = 3
"""Number of workers that one job may cost: a job that was lost with its worker is done again elsewhere."""


@dataclass(frozen=True)
class Job:
    """A part of an evaluation; it may be done anywhere, and more than once.

    Attributes:
        name: what is to be done, as the evaluator's `Worker` knows it.
        architecture: with which architecture.
        arguments: what else it takes; small, for it is sent.
    """

    name: str
    architecture: Architecture
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Worker(Protocol):
    """The object that does the jobs of one evaluator. It can be pickled, and every worker holds it once."""

    def run(self, job: Job) -> Any:
        """Return the result, small and picklable.

        Raises:
            UnavailableError: the architecture cannot be evaluated, which is no failure.
            Exception: it has failed.
        """
        ...


class JobError(StudyError):
    """Raised when a job has failed, or its workers were lost; the text is the reason that its trial shows."""


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        job_id: of the job.
        value: its result.
        failure: why there is none, as "ValueError: what it said".
        unavailable: why the architecture cannot be evaluated.
    """

    job_id: int
    value: Any = None
    failure: str | None = None
    unavailable: str | None = None

    def get(self) -> Any:
        """Return the result.

        Raises:
            UnavailableError: the architecture cannot be evaluated.
            JobError: the job has failed, or its workers were lost.
        """
        if self.unavailable is not None:
            raise UnavailableError(self.unavailable)
        if self.failure is not None:
            raise JobError(self.failure)
        return self.value


def run_job(worker: Worker, job_id: int, job: Job) -> JobResult:
    """Let `worker` do `job`; an exception is part of the result, because exceptions do not always travel."""
    try:
        return JobResult(job_id, worker.run(job))
    except UnavailableError as error:
        return JobResult(job_id, unavailable=str(error))
    except Exception as error:  # whatever an evaluator does is the candidate's failure, not the search's
        return JobResult(job_id, failure=f"{type(error).__name__}: {error}")


class WorkerPool(Protocol):
    """A pool of workers. Only one thread calls these methods."""

    @property
    def size(self) -> int:
        """Return how many jobs run at once."""
        ...

    def submit(self, job: Job) -> int:
        """Take a job at once, however many wait already, and return the id of its result."""
        ...

    def collect(self) -> JobResult:
        """Wait for the next finished job, in whichever order; call it only while jobs are running.

        A worker that dies is replaced and its job done by another; after `ATTEMPTS` workers, the result is
        that the job has failed.

        Raises:
            StudyError: no worker can be had.
        """
        ...

    def close(self) -> None:
        """Terminate all workers; running jobs are lost."""
        ...
