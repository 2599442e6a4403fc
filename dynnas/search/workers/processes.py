"""A pool of processes on this machine, which share one copy of the weights and images."""

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
from dynnas.search.workers.pool import ATTEMPTS, Answer, Hand, Job, answer
from dynnas.search.workers.shared_memory import Parcel
from dynnas.threads import most_threads, wait_passively

_READY = "ready"

# A worker that is sent home is killed if it takes so long.
_SECONDS_TO_LEAVE = 2.0


class Processes:
    """Processes that are replaced where they die, and that end with the driver however it ends.

    Args:
        hand: what does the jobs.
        workers: how many processes.
        progress: is told of workers that were lost.

    Raises:
        StudyError: the hand cannot be pickled.
    """

    def __init__(self, hand: Hand, workers: int, progress: Progress) -> None:
        self._size = workers
        self._progress = progress
        self._parcel = _packed(hand)
        self._threads = _threads(workers)
        wait_passively()  # workers have this process's environment
        # A thread for each worker hands it the next job even while the driver is busy with something else.
        self._backlog: SimpleQueue[tuple[int, Job]] = SimpleQueue()
        self._news: SimpleQueue[Answer | str | StudyError] = SimpleQueue()
        self._lost: dict[int, int] = {}
        self._tickets = 0
        self._lock = threading.Lock()
        self._workers: dict[int, _Worker] = {}
        self._closed = False
        atexit.register(self.close)
        for place in range(workers):
            threading.Thread(target=self._tend, args=(place,), daemon=True).start()

    @property
    def size(self) -> int:
        """Return how many jobs run at once."""
        return self._size

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the process ids of the current workers."""
        with self._lock:
            return tuple(worker.id for worker in self._workers.values())

    def submit(self, job: Job) -> int:
        """Take a job."""
        self._tickets += 1
        self._backlog.put((self._tickets, job))
        return self._tickets

    def collect(self) -> Answer:
        """Wait for the next job that is done.

        Raises:
            StudyError: workers die before their first job, or cannot unpickle the evaluator.
        """
        while True:
            news = self._news.get()
            if isinstance(news, Answer):
                self._lost.pop(news.ticket, None)
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
            workers = list(self._workers.values())
        atexit.unregister(self.close)
        for worker in workers:
            worker.send_home()
        for worker in workers:
            worker.wait()
        self._parcel.close()

    def _tend(self, place: int) -> None:
        """Supervise one worker: give it jobs, and replace it where it dies."""
        try:
            worker = self._hire(place)
            while worker is not None:
                ticket, job = self._backlog.get()
                if not worker.alive:  # died idle, which is not the job's fault
                    worker = self._replace(place, worker)
                done = worker and worker.do(ticket, job)
                if done:
                    self._news.put(done)
                elif worker is None:
                    self._backlog.put((ticket, job))
                else:
                    self._job_lost(ticket, job, worker)
                    worker = self._replace(place, worker)
        except OSError as error:  # no more processes or descriptors
            self._give_up(StudyError(f"workers: none can be started ({error})"))

    def _job_lost(self, ticket: int, job: Job, worker: _Worker) -> None:
        if self._closed:
            return
        self._lost[ticket] = lost = self._lost.get(ticket, 0) + 1
        if lost >= ATTEMPTS:
            reason = f"its worker died {lost} times, the last {worker.death}"
            self._news.put(Answer(ticket, failure=f"LostWorker: {reason}"))
        else:
            self._news.put(
                f"a worker was lost ({worker.death}); {job.architecture.key} is tried again, "
                f"attempt {lost + 1} of {ATTEMPTS}"
            )
            self._backlog.put((ticket, job))

    def _replace(self, place: int, worker: _Worker) -> _Worker | None:
        worker.wait()
        return self._hire(place)

    def _hire(self, place: int) -> _Worker | None:
        """Spawn a worker, and return it ready for jobs; None when there is nothing left to do here."""
        death = ""
        for _ in range(ATTEMPTS):
            with self._lock:
                if self._closed:
                    return None
                self._workers[place] = worker = _Worker(self._parcel, self._threads)
            said = worker.hear()
            if said == _READY:
                return worker
            worker.wait()
            if isinstance(said, str):
                self._give_up(StudyError(said))
                return None
            death = worker.death
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


class _Worker:
    """One process, as the driver sees it."""

    def __init__(self, parcel: Parcel, threads: int) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(parcel, theirs, threads), name="dynnas worker"
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

    def hear(self) -> Answer | str | None:
        """Receive its next message; None if it died instead."""
        try:
            said: Answer | str = self._connection.recv()
            return said
        except (EOFError, OSError):
            self._process.join(_SECONDS_TO_LEAVE)
            return None

    def do(self, ticket: int, job: Job) -> Answer | None:
        """Let it do a job; return None if it died over it."""
        try:
            self._connection.send((ticket, job))
        except OSError:
            self._process.join(_SECONDS_TO_LEAVE)
            return None
        said = self.hear()
        assert said is None or isinstance(said, Answer)
        return said

    def send_home(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.join(_SECONDS_TO_LEAVE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _packed(hand: Hand) -> Parcel:
    try:
        return Parcel.of(hand)
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


def _serve(parcel: Parcel, connection: Connection, threads: int) -> None:
    """Run a worker: load the object that does jobs, and do jobs until the end."""
    jobs: SimpleQueue[tuple[int, Job]] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    try:
        hand: Hand = parcel.open()
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
        ticket, job = jobs.get()
        done = answer(hand, ticket, job)
        try:
            connection.send(done)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # a result that cannot be pickled
            connection.send(Answer(ticket, failure=f"{type(error).__name__}: {error}"))


def _listen(connection: Connection, jobs: SimpleQueue[tuple[int, Job]]) -> None:
    """Take jobs; where the driver is gone, end at once, in the middle of any job."""
    while True:
        try:
            jobs.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)
