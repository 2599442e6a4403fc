"""Where a training step of a supernet goes, and how long it takes in every arithmetic.

    python tests/bench/step.py spaces/imagenette.yaml [--batch 64] [--rounds 5] [--threads 1] [--random 1]

A step runs the networks of the sandwich rule forward and backward, on drawn images. The ways take turns, and
each has its fastest step; the first, float32 as torch lays images out, is what the others are compared with.
`torch` is torch's own gradients, as if `dynnas.nn.gradients` were not there. Below is what the operators of
the fastest way take, and how much of the time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import torch
from torch.profiler import profile

from dynnas.language.parser import load_space
from dynnas.nn.networks.cost import cost
from dynnas.space.moves import largest
from dynnas.supernet.make import make_supernet
from dynnas.training import execution as arithmetic
from dynnas.training.algorithm import Pass
from dynnas.training.algorithms.sampling.sandwich import sandwich
from dynnas.training.execution import Execution, run_trial
from dynnas.training.models import model_of

CPU = torch.device("cpu")
SHOWN = 12


def as_torch_does(step: Callable[[], None]) -> None:
    """Take a step without gradients of our own."""
    with patch.object(arithmetic, "FastGradients", nullcontext):
        step()


def main() -> None:
    """Time the ways in turns, and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", help="a space file of networks for images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--random", type=int, default=1, help="networks beside the largest and the smallest")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    space = load_space(given.space)
    channels, classes, side = (
        space.network.channels,
        space.network.classes,
        space.network_config(largest(space)).resolution,
    )
    model = model_of(make_supernet(space, channels, classes).train())
    images = torch.randn(given.batch, channels, side, side)
    architectures = sandwich(space, given.random, 0, 0)
    macs = sum(cost(space.network_config(each)).macs for each in architectures)
    networks = [Pass(each, open_gates=not at) for at, each in enumerate(architectures)]
    ways = {}
    for precision in ("float32", "bfloat16"):
        for layout in ("channels_first", "channels_last"):
            step = partial(run_trial, model, networks, images, CPU, Execution(layout, precision))
            ways[f"{precision}, {layout}, torch"] = partial(as_torch_does, step)
            ways[f"{precision}, {layout}"] = step
    seconds = dict.fromkeys(ways, float("inf"))
    for at in range(1 + given.rounds):
        for way, step in ways.items():
            start = time.process_time()
            step()
            if at:
                seconds[way] = min(seconds[way], time.process_time() - start)
    first, fastest = next(iter(ways)), min(seconds, key=seconds.__getitem__)
    print(
        f"{len(networks)} networks of {macs / 1e6:.0f} million multiply-adds together, {given.batch} images"
    )
    for way, taken in seconds.items():
        rate = 3 * macs * given.batch / taken / 1e9
        speedup = seconds[first] / taken
        print(f"{way:40} {1000 * taken:7.0f} ms  {rate:6.1f} GMAC/s  {speedup:5.2f} times as fast")
    print(f"{fastest}:")
    with profile() as found:
        ways[fastest]()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_cpu_time_total)
    whole = sum(row.self_cpu_time_total for row in rows)
    for row in rows[:SHOWN]:
        print(
            f"{row.key:40} {row.self_cpu_time_total / 1000:7.1f} ms  {row.self_cpu_time_total / whole:6.1%}"
        )


if __name__ == "__main__":
    main()
