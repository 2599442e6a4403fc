"""The program of a rank: `python -m dynnas.training.distributed.rank_process`.

`launch_processes` starts it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TextIO

import torch
from torch import distributed

from dynnas.errors import DynnasError
from dynnas.training.checkpoint import save_checkpoint
from dynnas.training.distributed.processes import HOST, JOB
from dynnas.training.distributed.ranks import Ranks, backend
from dynnas.training.interruption import Stop
from dynnas.training.train_supernet import Training, train_rank


def main(place: Path, rank: int, count: int, port: int, threads: int) -> None:
    """Train as rank `rank` of `count`; messages are lines of JSON on what was the standard output."""
    stop = Stop()
    Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is for the log
    torch.set_num_threads(threads)
    try:
        _train(place, Ranks(rank, count), port, channel, stop)
    except KeyboardInterrupt:
        _say(channel, {"stopped": True})
        os._exit(0)  # the others may be at a step, for which they need this one
    except DynnasError as error:
        _say(channel, {"error": str(error)})
        sys.exit(1)
    except OSError as error:
        _say(channel, {"error": f"training: {error.filename or place}: {error.strerror or error}"})
        sys.exit(1)


def _train(place: Path, ranks: Ranks, port: int, channel: TextIO, stop: Stop) -> None:
    # Written by the process that started this one. Mapped copy-on-write: what is not written to is shared.
    training: Training = torch.load(place / JOB, mmap=True, weights_only=False)
    if training.device.startswith("cuda"):
        torch.cuda.set_device(ranks.rank)
        training = replace(training, device=f"cuda:{ranks.rank}")
    store = distributed.TCPStore(HOST, port, is_master=False)
    distributed.init_process_group(
        backend(training.device), store=store, rank=ranks.rank, world_size=ranks.count
    )
    train_rank(
        training,
        ranks,
        report=lambda loss: _say(channel, {"loss": loss}),
        save=partial(save_checkpoint, folder=place.parent),
        stop=stop,
    )
    distributed.destroy_process_group()


def _say(channel: TextIO, message: dict[str, object]) -> None:
    print(json.dumps(message), file=channel, flush=True)


def _end_with_parent(stop: Stop) -> None:
    while os.read(0, 1):
        stop.wish()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
