"""Processes that decode batches ahead of the training.

They are started with a new interpreter that imports numpy and Pillow alone. Forked ones, as torch's
`DataLoader` has them, would hold on to the file locks of a search for as long as they outlive it, and spawned
ones import the user's script again. They end with the pipe that feeds them, so also when this process is
killed. `tests/bench/loading.py` compares the throughput with that of torchvision's `ImageFolder` and a
`DataLoader`.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, Protocol, cast

import numpy as np

from dynnas.errors import DataError

_AHEAD = 2
"""Batches that each worker has been asked for and has not handed over yet."""

_COMMAND = "from dynnas.data.streaming.pool import work; work()"


class Reader(Protocol):
    """A reader of rows, which is sent to the workers by pickle."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows, [len(rows), ...]."""
        ...


class WorkerPool:
    """Some processes with a reader each.

    They take turns, so that batches come in the order in which they are asked for, whichever is faster.
    A new call of `batches` takes the workers over; an older one begins again at its place.
    """

    def __init__(self, reader: Reader, workers: int) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._waiting: deque[int] = deque()
        self._turn: object | None = None
        self._workers = [_start() for _ in range(workers)]
        self._finalizer = weakref.finalize(self, _stop, self._workers, self._process)
        for worker, each in enumerate(self._workers):
            try:
                pickle.dump(reader, _pipe(each.stdin), protocol=pickle.HIGHEST_PROTOCOL)
            except OSError as error:
                raise self._ended(worker) from error

    @property
    def mine(self) -> bool:
        """True if this process started the workers, and has not stopped them."""
        return self._process == os.getpid() and self._finalizer.alive

    def close(self) -> None:
        """End the workers."""
        self._waiting.clear()
        self._finalizer()

    def batches(self, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield what the reader makes of each of `parts`, in order.

        Raises:
            DataError: a worker raises it, raises anything else, or has ended.
        """
        turn, sent, done = object(), 0, 0
        while done < len(parts):
            with self._lock:
                if self._turn is not turn:
                    self._drain()
                    self._turn, sent = turn, done
                while sent < min(len(parts), done + _AHEAD * len(self._workers)):
                    self._send(sent % len(self._workers), parts[sent])
                    sent += 1
                batch = self._receive()
            done += 1
            yield batch

    def _send(self, worker: int, rows: np.ndarray) -> None:
        try:
            file = _pipe(self._workers[worker].stdin)
            pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)
            file.flush()
        except OSError as error:
            raise self._ended(worker) from error
        self._waiting.append(worker)

    def _receive(self) -> np.ndarray:
        worker = self._waiting.popleft()
        try:
            found = pickle.load(_pipe(self._workers[worker].stdout))
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._ended(worker) from error
        if isinstance(found, DataError):
            self._turn = None
            raise found
        return cast(np.ndarray, found)

    def _drain(self) -> None:
        """Receive what nobody wants any more, so that the pipes are empty."""
        while self._waiting:
            with suppress(DataError):
                self._receive()
            if not self._finalizer.alive:
                raise self._ended(0)

    def _ended(self, worker: int) -> DataError:
        with suppress(subprocess.TimeoutExpired):
            self._workers[worker].wait(1)
        self.close()
        status = self._workers[worker].wait()
        return DataError(
            f"data: a process that decodes images ended with status {status}; -9 often means that memory ran "
            "out: lower data.workers or train.batch"
        )


def work() -> None:
    """Answer requests from standard input on standard output until the input ends: a worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that feeds this one
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    try:
        reader = pickle.load(requests)
        while True:
            rows = pickle.load(requests)
            answer: np.ndarray | DataError
            try:
                answer = reader.read(rows)
            except DataError as error:
                answer = DataError(str(error))
            except Exception as error:  # a worker must answer
                answer = DataError(f"data: reading images failed with {type(error).__name__}: {error}")
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # without flushing into a pipe that nobody reads


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _stop(workers: Sequence[subprocess.Popen[bytes]], owner: int) -> None:
    if os.getpid() != owner:
        return
    for each in workers:
        each.kill()
        for pipe in (each.stdin, each.stdout):
            with suppress(OSError):
                _pipe(pipe).close()
        each.wait()


def _pipe(pipe: object) -> BinaryIO:
    return cast(BinaryIO, pipe)
