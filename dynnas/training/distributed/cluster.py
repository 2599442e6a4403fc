"""The training of a supernet on a Ray cluster: one actor a rank.

Plain actors rather than Ray Train: for two ranks, `TorchTrainer` of Ray 2.60 starts five actors more
(controller, synchronization, data sets, placement groups, autoscaling), wants storage that all machines
share, and blocks until the training has ended. Here rank 0 sends its checkpoints to the driver, which keeps
them in the study's folder, and saves when the driver is interrupted.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from torch import distributed

from dynnas.errors import DynnasError, TrainingError
from dynnas.training.checkpoint import Checkpoint, save_checkpoint
from dynnas.training.distributed.processes import check_count
from dynnas.training.distributed.ranks import Ranks, backend
from dynnas.training.interruption import Stop, stop_on_signals
from dynnas.training.train_supernet import Report, Training, train_rank

_GRACE_SECONDS = 5.0
"""Seconds to look for a rank that is gone, after another one lost the others: it is then the reason."""

News = tuple[str, Any]
"""A message of rank 0: ("loss", its value), ("checkpoint", its bytes), or `STOPPED` as the last one."""


STOPPED: News = ("stopped", None)


def train(training: Training, folder: Path, report: Report) -> None:
    """Train as a `Launch` on the cluster that this process is connected to.

    Ctrl-C and SIGTERM let rank 0 save first.

    Raises:
        TrainingError: as `launch_processes`.
    """
    gpu = training.device.startswith("cuda")
    check_count(training, int(ray.cluster_resources().get("GPU", 0)) if gpu else None)
    count = training.settings.processes
    sent = ray.put(replace(training, dataset=training.dataset.to("cpu")))
    # Three calls at once: to train, to tell of it, and to ask for a stop.
    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(gpu), "max_restarts": 0, "max_concurrency": 3}
    kind: Any = ray.remote(**options)(_Rank)
    actors = [kind.remote(sys.path) for _ in range(count)]
    stop = Stop()
    try:
        host = ray.get(actors[0].host.remote())
        calls = [actor.train.remote(sent, Ranks(rank, count), host) for rank, actor in enumerate(actors)]
        with stop_on_signals(stop):
            _watch(calls, actors[0], lambda news: _hear(news, folder, report), stop)
    except RayError as error:
        raise _lost(0, count) from error
    finally:
        for actor in actors:
            ray.kill(actor)
    if stop:
        stop.obey()


def _watch(calls: list[Any], first: Any, hear: Callable[[News], None], stop: Stop) -> None:
    """Pass on the messages of rank 0 until all ranks have finished, or rank 0 has saved because of `stop`."""
    running, told_to_stop = list(calls), False
    listening = first.news.remote()
    while running:
        if stop and not told_to_stop:
            told_to_stop = True
            first.stop.remote()
        done, _ = ray.wait([listening, *running])  # `news` returns at least twice a second
        for call in done:
            if call is listening:
                continue
            try:
                ray.get(call)
            except RayError as error:
                _fail(error, calls.index(call), calls)
            running.remove(call)
        if listening in done:
            for news in ray.get(listening):
                if news == STOPPED:
                    return
                hear(news)
            listening = first.news.remote()
    while told := ray.get(listening):
        for news in told:
            hear(news)
        listening = first.news.remote()


def _hear(news: News, folder: Path, report: Report) -> None:
    kind, content = news
    if kind == "loss":
        report(content)
        return
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    save_checkpoint(Checkpoint(**state), folder)


def _fail(error: RayError, rank: int, calls: list[Any]) -> NoReturn:
    """Raise the reason why a rank ended: when one is gone, the others fail as well, and perhaps sooner."""
    if not isinstance(error, RayTaskError):
        raise _lost(rank, len(calls)) from error
    if isinstance(error.cause, DynnasError):
        raise TrainingError(str(error.cause)) from error
    ended, _ = ray.wait(calls, num_returns=len(calls), timeout=_GRACE_SECONDS)
    for call in ended:
        try:
            ray.get(call)
        except RayTaskError:
            continue
        except RayError:
            raise _lost(calls.index(call), len(calls)) from error
    raise error


def _lost(rank: int, count: int) -> TrainingError:
    return TrainingError(
        f"training: process {rank} of {count} was killed, or its machine is gone; "
        "run the same command again to go on from the last checkpoint"
    )


class _Rank:
    """The actor of one rank."""

    def __init__(self, path: list[str]) -> None:
        """`path` is where the driver finds modules; those of its machine are there for others on it."""
        sys.path.extend(place for place in path if place not in sys.path)
        self._news: SimpleQueue[News] = SimpleQueue()
        self._store: distributed.TCPStore | None = None
        self._stop = Stop()

    def host(self) -> tuple[str, int]:
        """Become the meeting point of the ranks, and return its address."""
        address = ray.util.get_node_ip_address()
        self._store = distributed.TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return address, self._store.port

    def news(self) -> list[News]:
        """Return the next message; nothing when none came for a moment."""
        told: list[News] = []
        try:
            told.append(self._news.get(timeout=0.5))
            while True:
                told.append(self._news.get_nowait())
        except Empty:
            return told

    def stop(self) -> None:
        """Request a stop: this rank saves after its step and does no more."""
        self._stop.wish()

    def train(self, training: Training, ranks: Ranks, host: tuple[str, int]) -> None:
        """Train to the end, or until a stop is requested."""

        def save(checkpoint: Checkpoint) -> None:
            content = io.BytesIO()
            torch.save(vars(checkpoint), content)
            self._news.put(("checkpoint", content.getvalue()))

        store = self._store or distributed.TCPStore(*host, is_master=False)
        distributed.init_process_group(
            backend(training.device), store=store, rank=ranks.rank, world_size=ranks.count
        )
        try:
            train_rank(training, ranks, lambda loss: self._news.put(("loss", loss)), save, self._stop)
        except KeyboardInterrupt:
            self._news.put(STOPPED)
            threading.Event().wait()  # the others may be at a step, for which they need this one
