"""A pool of processes on this machine, which share one copy of the weights and images.

Kept libraries were tried in its place. Of 12 jobs on 4 processes, where one job killed its process,
`concurrent.futures` and loky lost all 12 and every process; Pebble lost one, but breaks as a whole when a
process is killed between two jobs. Executors of one process each lose one job too, in 197 lines of code, not
211; but a job costs 0.9 ms, not 0.35 ms, and a driver that ends waits for the running jobs.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue

from dynnas.errors import StudyError
from dynnas.progress import Progress
from dynnas.search.workers.pool import ATTEMPTS, Job, JobResult, Worker, run_job
from dynnas.search.workers.shared_memory import SharedPickle
from dynnas.threads import most_threads, wait_passively

_READY = "ready"

_SECONDS_TO_END = 2.0
"""A process that is terminated is killed if it takes longer to end."""


class ProcessPool:
    """Processes that are replaced where they die, and that end with the driver however it ends.

    Args:
        worker: what does the jobs.
        workers: how many processes.
        progress: is told of workers that were lost.

    Raises:
        StudyError: the worker cannot be pickled.
    """

    def __init__(self, worker: Worker, workers: int, progress: Progress) -> None:
        self._size = workers
        self._progress = progress
        self._shared = _packed(worker)
        self._threads = _threads(workers)
        wait_passively()  # workers have this process's environment
        # A thread for each worker hands it the next job even while the driver is busy with something else.
        self._backlog: SimpleQueue[tuple[int, Job]] = SimpleQueue()
        self._news: SimpleQueue[JobResult | str | StudyError] = SimpleQueue()
        self._lost: dict[int, int] = {}
        self._submitted = 0
        self._lock = threading.Lock()
        self._processes: dict[int, _Process] = {}
        self._closed = False
        atexit.register(self.close)
        for place in range(workers):
            threading.Thread(target=self._supervise, args=(place,), daemon=True).start()

    @property
    def size(self) -> int:
        """Return how many jobs run at once."""
        return self._size

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the process ids of the current workers."""
        with self._lock:
            return tuple(process.id for process in self._processes.values())

    def submit(self, job: Job) -> int:
        """Take a job."""
        self._submitted += 1
        self._backlog.put((self._submitted, job))
        return self._submitted

    def collect(self) -> JobResult:
        """Wait for the next job that is done.

        Raises:
            StudyError: workers die before their first job, or cannot unpickle the evaluator.
        """
        while True:
            news = self._news.get()
            if isinstance(news, JobResult):
                self._lost.pop(news.job_id, None)
                return news
            if isinstance(news, StudyError):
                raise news
            self._progress.message(news)

    def close(self) -> None:
        """Terminate all workers; running jobs are lost."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            processes = list(self._processes.values())
        atexit.unregister(self.close)
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        self._shared.close()

    def _supervise(self, place: int) -> None:
        """Supervise one worker: give it jobs, and replace it where it dies."""
        try:
            process = self._spawn(place)
            while process is not None:
                job_id, job = self._backlog.get()
                if not process.alive:  # died idle, which is not the job's fault
                    process = self._replace(place, process)
                done = process and process.do(job_id, job)
                if done:
                    self._news.put(done)
                elif process is None:
                    self._backlog.put((job_id, job))
                else:
                    self._job_lost(job_id, job, process)
                    process = self._replace(place, process)
        except OSError as error:  # no more processes or descriptors
            self._give_up(StudyError(f"workers: none can be started ({error})"))

    def _job_lost(self, job_id: int, job: Job, process: _Process) -> None:
        if self._closed:
            return
        self._lost[job_id] = lost = self._lost.get(job_id, 0) + 1
        if lost >= ATTEMPTS:
            reason = f"its worker died {lost} times, the last {process.death}"
            self._news.put(JobResult(job_id, failure=f"LostWorker: {reason}"))
        else:
            self._news.put(
                f"a worker was lost ({process.death}); {job.architecture.key} is tried again, "
                f"attempt {lost + 1} of {ATTEMPTS}"
            )
            self._backlog.put((job_id, job))

    def _replace(self, place: int, process: _Process) -> _Process | None:
        process.wait()
        return self._spawn(place)

    def _spawn(self, place: int) -> _Process | None:
        """Spawn a process, and return it ready for jobs; None when there is nothing left to do here."""
        death = ""
        for _ in range(ATTEMPTS):
            with self._lock:
                if self._closed:
                    return None
                self._processes[place] = process = _Process(self._shared, self._threads)
            said = process.receive()
            if said == _READY:
                return process
            process.wait()
            if isinstance(said, str):
                self._give_up(StudyError(said))
                return None
            death = process.death
        self._give_up(
            StudyError(
                f"workers: {ATTEMPTS} in a row died before their first job, the last {death}; "
                "there may be too little memory: give fewer --workers"
            )
        )
        return None

    def _give_up(self, error: StudyError) -> None:
        if not self._closed:
            self._news.put(error)


class _Process:
    """One process, as the driver sees it."""

    def __init__(self, shared: SharedPickle, threads: int) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(shared, theirs, threads), name="dynnas worker"
        )
        # Ctrl-C in a terminal reaches everyone; it is for the driver to say what becomes of it. This thread's
        # mask goes to the process; to start the tracker, which comes first, would take it off.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._process.start()
        theirs.close()  # or its end would never be heard

    @property
    def id(self) -> int:
        """Return the process id."""
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.is_alive()

    @property
    def death(self) -> str:
        """Describe how the process died."""
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"with exit status {code}"

    def receive(self) -> JobResult | str | None:
        """Receive its next message; None if it died instead."""
        try:
            said: JobResult | str = self._connection.recv()
            return said
        except (EOFError, OSError):
            self._process.join(_SECONDS_TO_END)
            return None

    def do(self, job_id: int, job: Job) -> JobResult | None:
        """Let it do a job; return None if it died over it."""
        try:
            self._connection.send((job_id, job))
        except OSError:
            self._process.join(_SECONDS_TO_END)
            return None
        said = self.receive()
        assert said is None or isinstance(said, JobResult)
        return said

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _packed(worker: Worker) -> SharedPickle:
    try:
        return SharedPickle.of(worker)
    except Exception as error:  # pickle raises whatever it likes
        raise StudyError(
            f"workers: the evaluator cannot be sent to other processes ({type(error).__name__}: {error}); "
            "define its class at the top level of a module and keep files, locks and lambdas out of "
            "it, or search with 1 worker"
        ) from error


def _threads(workers: int) -> int:
    """Return threads of torch for each worker: together as many as the driver would take."""
    torch = sys.modules.get("torch")
    return max(1, most_threads() // workers) if torch else 0


def _serve(shared: SharedPickle, connection: Connection, threads: int) -> None:
    """Run a worker: load the object that does jobs, and do jobs until the end."""
    jobs: SimpleQueue[tuple[int, Job]] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    try:
        worker: Worker = shared.open()
    except Exception as error:
        connection.send(
            f"workers: a worker cannot make the evaluator ({type(error).__name__}: {error}); define its "
            "class in a module that can be imported, or search with 1 worker"
        )
        return
    if threads and (torch := sys.modules.get("torch")):
        torch.set_num_threads(threads)
    connection.send(_READY)
    while True:
        job_id, job = jobs.get()
        done = run_job(worker, job_id, job)
        try:
            connection.send(done)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # a result that cannot be pickled
            connection.send(JobResult(job_id, failure=f"{type(error).__name__}: {error}"))


def _listen(connection: Connection, jobs: SimpleQueue[tuple[int, Job]]) -> None:
    """Take jobs; where the driver is gone, end at once, in the middle of any job."""
    while True:
        try:
            jobs.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)
