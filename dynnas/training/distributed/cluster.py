"""The training of a supernet on a Ray cluster: one actor a rank, as many as there are machines for.

Where a rank or its machine is lost, the others begin again from the last checkpoint without it; where there
is room for a rank that is missing, they save and begin again with it. The weights are those of one process,
up to rounding, for a batch is the same however many ranks part it.

Plain actors rather than Ray Train: for two ranks, `TorchTrainer` of Ray 2.60 starts five actors more
(controller, synchronization, data sets, placement groups, autoscaling), wants storage that all machines
share, and blocks until the training has ended. Here rank 0 sends its checkpoints to the driver, which keeps
them in the study's folder, and saves when the driver is interrupted.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from torch import distributed

from dynnas.errors import DynnasError, TrainingError
from dynnas.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from dynnas.training.distributed.processes import check_count
from dynnas.training.distributed.ranks import Ranks, backend
from dynnas.training.interruption import Stop, stop_on_signals
from dynnas.training.train_supernet import Report, Training, train_rank

_GRACE_SECONDS = 30.0
"""Seconds to look for a rank that is gone, after another one lost the others: it is then the reason."""

_ROOM_SECONDS = 5.0
"""Seconds from one look for room to the next, where there are fewer ranks than were asked for."""

_WAIT_SECONDS = 60.0
"""Seconds to wait for room for a single rank, after all were lost."""

MOST_LOSSES = 3
"""Times that ranks may be lost one after the other without a new checkpoint in between."""

News = tuple[str, Any]
"""A message of rank 0: ("loss", its value), ("checkpoint", its bytes), or `STOPPED` as the last one."""


STOPPED: News = ("stopped", None)


class _LostRankError(Exception):
    """A rank was killed, or its machine is gone."""

    def __init__(self, rank: int, count: int) -> None:
        super().__init__(f"process {rank} of {count} was killed, or its machine is gone")


@dataclass
class _Place:
    """The place where the driver keeps what it hears from rank 0.

    Attributes:
        report: is told the loss of each step once, however often a step is done.
        step: the last checkpoint's.
    """

    folder: Path
    report: Report
    step: int
    _heard: int = 0
    _reported: int = 0

    def begin(self) -> None:
        """Begin again at the last checkpoint."""
        self._heard = self.step

    def hear(self, news: News) -> None:
        """Keep a checkpoint, or pass on a loss."""
        kind, content = news
        if kind == "loss":
            self._heard += 1
            if self._heard > self._reported:
                self._reported = self._heard
                self.report(content)
            return
        checkpoint = Checkpoint(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        save_checkpoint(checkpoint, self.folder)
        self.step = checkpoint.step

    @classmethod
    def of(cls, training: Training, folder: Path, report: Report) -> _Place:
        """Make one at the beginning of a command."""
        step = training.checkpoint.step if training.checkpoint else 0
        return cls(folder, report, step, step, step)


def train(
    training: Training, folder: Path, report: Report, say: Callable[[str], None] = lambda text: None
) -> None:
    """Train as a `Launch` on the cluster that this process is connected to.

    Ctrl-C and SIGTERM let rank 0 save first.

    Args:
        say: is told where ranks are lost and where new ones take part.

    Raises:
        TrainingError: as `launch_processes`; or ranks are lost again and again, or no machine is left.
    """
    kind = "GPU" if training.device.startswith("cuda") else "CPU"
    check_count(training, int(ray.cluster_resources().get("GPU", 0)) if kind == "GPU" else None)
    wanted = count = training.settings.processes
    place, stop, losses = _Place.of(training, folder, report), Stop(), 0
    while True:
        began = place.step
        place.begin()
        try:
            if _train_once(training, count, wanted, kind, place, stop):
                return
            losses, change = 0, "there is room for more processes"
        except _LostRankError as lost:
            losses, change = (1 if place.step > began else losses + 1), str(lost)
        if losses == MOST_LOSSES:
            raise TrainingError(
                f"training: {change}, the third time since the checkpoint of step {place.step}; run the same "
                "command again to go on from there"
            )
        training = replace(training, checkpoint=read_checkpoint(folder))
        count = _room(kind, wanted)
        say(f"training: {change}; it goes on from step {place.step} with {count} of {wanted} processes")


def _room(kind: str, wanted: int) -> int:
    """Return how many ranks find a processor or GPU now, up to `wanted`; ended ones give theirs back late."""
    end, most = time.monotonic() + _WAIT_SECONDS, 0
    settled = time.monotonic() + _ROOM_SECONDS
    while most < wanted and time.monotonic() < (end if most == 0 else settled):
        most = max(most, min(wanted, int(ray.available_resources().get(kind, 0))))
        time.sleep(0.2)
    if most == 0:
        raise TrainingError(
            "training: no machine of the cluster is left to train on; run the same command again when there "
            "is one, to go on from the last checkpoint"
        )
    return min(most, max(1, int(ray.available_resources().get(kind, 0))))


def _train_once(training: Training, count: int, wanted: int, kind: str, place: _Place, stop: Stop) -> bool:
    """Train with `count` ranks; return whether the training is finished, or else there is room for more.

    Raises:
        _LostRankError: a rank is gone. TrainingError: one says why it cannot go on.
    """
    settings = replace(training.settings, processes=count)
    sent = ray.put(replace(training, settings=settings, dataset=training.dataset.to("cpu")))
    # Three calls at once: to train, to tell of it, and to ask for a stop.
    gpus = int(kind == "GPU")
    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "max_concurrency": 3}
    actor: Any = ray.remote(**options)(_Rank)
    actors = [actor.remote(sys.path) for _ in range(count)]
    try:
        host = ray.get(actors[0].host.remote())
        calls = [each.train.remote(sent, Ranks(rank, count), host) for rank, each in enumerate(actors)]
        with stop_on_signals(stop):
            finished = _watch(calls, actors[0], place.hear, stop, kind if count < wanted else None)
    except RayError as error:
        raise _LostRankError(0, count) from error
    finally:
        for each in actors:
            ray.kill(each)
    if stop:
        stop.obey()
    return finished


def _watch(
    calls: list[Any], first: Any, hear: Callable[[News], None], stop: Stop, missing: str | None
) -> bool:
    """Pass on the messages of rank 0 until all ranks have finished, or it has saved and stopped.

    It is asked to stop where `stop` says so, or where there is a free one of what is `missing`.

    Returns:
        whether all ranks have finished.
    """
    running, told_to_stop = list(calls), False
    listening, look = first.news.remote(), time.monotonic() + _ROOM_SECONDS
    while running:
        more = False
        if missing and time.monotonic() > look:
            more, look = ray.available_resources().get(missing, 0) >= 1, time.monotonic() + _ROOM_SECONDS
        if (stop or more) and not told_to_stop:
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
                    return False
                hear(news)
            listening = first.news.remote()
    while told := ray.get(listening):
        for news in told:
            hear(news)
        listening = first.news.remote()
    return True


def _fail(error: RayError, rank: int, calls: list[Any]) -> NoReturn:
    """Raise the reason why a rank ended: when one is gone, the others fail as well, and perhaps sooner."""
    if not isinstance(error, RayTaskError):
        raise _LostRankError(rank, len(calls)) from error
    if isinstance(error.cause, DynnasError):
        raise TrainingError(str(error.cause)) from error
    ended, _ = ray.wait(calls, num_returns=len(calls), timeout=_GRACE_SECONDS)
    for call in ended:
        try:
            ray.get(call)
        except RayTaskError:
            continue
        except RayError:
            raise _LostRankError(calls.index(call), len(calls)) from error
    reason = f"{type(error.cause).__name__}: {error.cause}"
    raise TrainingError(f"training: process {rank} of {len(calls)} failed by {reason}") from error


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
