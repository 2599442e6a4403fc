"""What gates save by the clock, for what they save in multiply-adds.

    python tests/bench/gates.py [--saving 0.4] [--rounds 30] [--width 4] [--families skip width exits]

A network of three stages of four blocks (mbconv, and basic as a network of dense kernels), in which one
family decides wherever it makes sense, stands beside the same network in which nothing does. What decides
looks at the image through random weights; its biases or thresholds are set so that the images that are timed
save a given share of what may be left out, in the mean, the cost of deciding included (`deciding.py`). So
every family is compared at the same saving, and what is timed is what decides and runs, not what a training
made of it.

In each round both run on all of the images, one right after the other; told is the median over rounds,
for each way as a ratio: the share of the time saved over that of the multiply-adds saved, 1 if time follows
arithmetic, and below 0 if deciding makes the network slower. Beside it stand the time saved and the whole. At
batch 1 real branching: torch, and ONNX Runtime from the graph that ships. At batch 64 in torch, compacted:
images that want the same run together; and masked.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from deciding import FAMILIES, deciding_network, generator, set_saving, undecided
from torch import Tensor

from dynnas.latency.runner import build_runner
from dynnas.nn.networks.network import Network
from dynnas.runtimes.batches import build_batch_runner
from dynnas.settings.settings import TargetSettings

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
BATCH, IMAGES = 64, 64
WAYS = (
    "torch, batch 1",
    "onnxruntime, batch 1",
    f"torch, batch {BATCH}, compacted",
    f"torch, batch {BATCH}, masked",
)


@dataclass(frozen=True)
class Pair:
    """A network that decides and the same that does not, ready to run in one way."""

    deciding: Callable[[np.ndarray], object]
    plain: Callable[[np.ndarray], object]
    inputs: tuple[np.ndarray, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    args = _arguments(argv)
    titles = ("family", "block", "MACs saved %", *WAYS)
    print(f"| {' | '.join(titles)} |\n| --- | --- |{' ---: |' * (len(titles) - 2)}")
    # A device runs one network: in a process that has run others, some took up to 7% longer.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for family in args.families:
            for kind in args.blocks:
                cells = processes.submit(row, args, family, kind).result()
                print(f"| {' | '.join((family, kind, *cells))} |", flush=True)
    return 0


def row(args: argparse.Namespace, family: str, kind: str) -> list[str]:
    """What is told of one family in one kind of network."""
    torch.set_num_threads(1)
    network = deciding_network(kind, family, args.resolution, args.width)
    images = torch.randn(IMAGES, 3, args.resolution, args.resolution, generator=generator(1))
    saved = set_saving(network, images, args.saving)
    cells = [f"{100 * saved:.0f}"]
    for pair in pairs(network, images):
        plain, deciding = alternate(pair, args.rounds, CLOCKS[args.clock])
        time_saved = 1 - deciding / plain
        cells.append(f"{time_saved / saved:.2f} ({100 * time_saved:.0f}% of {plain:.3f} ms)")
    return cells


def pairs(network: Network, images: Tensor) -> Iterator[Pair]:
    """The `WAYS` to run it."""
    plain = undecided(network)
    pixels = images.numpy()
    ones = tuple(pixels[[index]] for index in range(len(pixels)))
    for runtime in ("torch", "onnxruntime"):
        target = TargetSettings(runtime=runtime)
        yield Pair(build_runner(network, target), build_runner(plain, target), ones)
    target = TargetSettings(runtime="torch")
    whole = build_batch_runner(plain, target, "masked")
    for execution in ("compacted", "masked"):
        runner = build_batch_runner(network, target, execution)
        yield Pair(runner, whole, (pixels[:BATCH],))


def alternate(pair: Pair, rounds: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Milliseconds an input, without deciding and with: medians over rounds of the mean over inputs."""
    found: dict[str, list[float]] = {"plain": [], "deciding": []}
    for turn in range(rounds + 2):
        sums = dict.fromkeys(found, 0.0)
        for name in ("plain", "deciding") if turn % 2 else ("deciding", "plain"):
            run = getattr(pair, name)
            for image in pair.inputs:  # not in turn: in use, a network does not share its caches with another
                start = clock()
                run(image)
                sums[name] += clock() - start
        if turn >= 2:  # the first rounds warm up
            for name, seconds in sums.items():
                found[name].append(1000 * seconds / len(pair.inputs))
    return statistics.median(found["plain"]), statistics.median(found["deciding"])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--saving", type=float, default=0.4, help="share of the multiply-adds that may be left out"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--width", type=int, default=1, help="times the channels")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--blocks", nargs="+", default=["mbconv", "basic"])
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
