"""Training in several processes of this machine, and the handling of one that ends.

This process trains nothing: it starts the ranks and watches them, so that whichever of them dies, and
however, the others are ended and one message says so. The ranks end with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import distributed

from dynnas.errors import TrainingError
from dynnas.threads import most_threads, wait_passively
from dynnas.training.interruption import Stop, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynnas.training.train_supernet import Report, Training

HOST = "127.0.0.1"
JOB = "training.pt"

STOP = b"s"
"""The message that asks a rank, on its standard input, to save and to stop after its step."""

_POLL_SECONDS = 0.2
"""Seconds that a request to stop may wait for a moment without messages."""

_GRACE_SECONDS = 2.0
"""Seconds to look for a rank that was killed, after another one lost the others: it is then the reason."""


def launch_processes(training: Training, folder: Path, report: Report) -> None:
    """Train as a `Launch`: one process a rank, one rank a GPU if there are GPUs."""
    count = training.settings.processes
    check_count(training, torch.cuda.device_count() if training.device.startswith("cuda") else None)
    place = folder / "ranks"
    shutil.rmtree(place, ignore_errors=True)  # a run that was killed leaves it behind
    place.mkdir(parents=True)
    try:
        # Ranks map this file into memory, so that they share one copy of the images.
        torch.save(replace(training, dataset=training.dataset.to("cpu")), place / JOB)
        store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        threads = max(1, most_threads() // count)
        stop = Stop()
        with (
            stop_on_signals(stop),
            _started(place, [str(count), str(store.port), str(threads)], count) as ranks,
        ):
            _watch(ranks, place, report, stop)
        if stop:
            stop.obey()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def check_count(training: Training, devices: int | None) -> None:
    """Check that there is something to do for every rank.

    Args:
        devices: how many GPUs there are to train on; None where it is processors.

    Raises:
        TrainingError: there are fewer images or GPUs than ranks.
    """
    count = training.settings.processes
    images = min(training.settings.batch, len(training.dataset.train))
    if images < count:
        raise TrainingError(
            f"train.processes: found {count}, but a batch has {images} images; allowed: 1 to {images}"
        )
    if devices is not None and devices < count:
        raise TrainingError(
            f"train.processes: found {count}, but there are {devices} GPUs; allowed: 1 to {max(1, devices)}"
        )


@contextmanager
def _started(place: Path, arguments: list[str], count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes of `dynnas.training.distributed.rank_process`.

    Whatever happens, none is left at the end.
    """
    source = str(Path(__file__).parents[2])  # of this very dynnas
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    wait_passively(environment)
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            command = [
                sys.executable,
                "-m",
                "dynnas.training.distributed.rank_process",
                str(place),
                str(rank),
                *arguments,
            ]
            with (place / f"{rank}.log").open("wb") as log:
                ranks.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,  # its end tells the rank that this process has ended
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=environment,
                        start_new_session=True,  # Ctrl-C is for this process, which ends the ranks
                    )
                )
        yield ranks
    finally:
        for process in ranks:
            process.kill()
        for process in ranks:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def _watch(ranks: list[subprocess.Popen[bytes]], place: Path, report: Report, stop: Stop) -> None:
    """Pass on the reports of rank 0, until all ranks have finished, or rank 0 has saved because of `stop`.

    Raises:
        TrainingError: a rank said why it cannot go on, or ended without a word.
    """
    heard: Queue[tuple[int, dict[str, Any] | None]] = Queue()
    for rank, process in enumerate(ranks):
        Thread(target=_listen, args=(rank, process, heard), daemon=True).start()
    running, told = set(range(len(ranks))), False
    while running:
        if stop and not told:
            told = True
            first = ranks[0].stdin
            assert first is not None
            with suppress(BrokenPipeError):
                first.write(STOP)
                first.flush()
        try:
            rank, message = heard.get(timeout=_POLL_SECONDS)
        except Empty:
            continue
        if message is None:
            if ranks[rank].wait() != 0:
                _fail(rank, ranks, place)
            running.remove(rank)
        elif "stopped" in message:
            return
        elif "loss" in message:
            report(message["loss"])
        elif "error" in message:
            raise TrainingError(message["error"])


def _listen(
    rank: int, process: subprocess.Popen[bytes], heard: Queue[tuple[int, dict[str, Any] | None]]
) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            heard.put((rank, json.loads(line)))
    heard.put((rank, None))


def _fail(rank: int, ranks: list[subprocess.Popen[bytes]], place: Path) -> NoReturn:
    """Raise the reason why a rank ended: when one is killed, the others fail as well, and perhaps sooner."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while True:
        for number, process in enumerate(ranks):
            code = process.poll()
            if code is not None and code < 0:
                raise TrainingError(
                    f"training: process {number} of {len(ranks)} was ended by {_signal(-code)}; "
                    "run the same command again to go on from the last checkpoint"
                )
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    log = (place / f"{rank}.log").read_text(errors="replace")
    raise RuntimeError(f"training: process {rank} of {len(ranks)} failed:\n{log}")


def _signal(number: int) -> str:
    if number == signal.SIGKILL:
        return "SIGKILL (perhaps memory ran out)"
    return f"signal {number} ({signal.strsignal(number)})"
