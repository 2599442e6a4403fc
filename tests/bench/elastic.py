"""What elasticity costs: forward and backward through the supernet against the same network standing alone.

    python tests/bench/elastic.py [SPACE] [--networks 24] [--batch 64] [--threads 2]

Alternating pairs in one process; prints the ratio of each network's medians, and their median over the space.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch

from dynnas.language.parser import load_space
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.staged import staged_supernet


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", nargs="?", default="spaces/mobile.yaml")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    space = load_space(args.space)
    config = space.network_config(largest(space))
    supernet = staged_supernet(space, config.channels, config.classes).train()
    rng = random.Random(0)
    architectures = [smallest(space), largest(space), *(sample(space, rng) for _ in range(args.networks - 2))]
    ratios = []
    for architecture in architectures:
        network = supernet.extract(architecture)
        shape = (args.batch, config.channels, network.config.resolution, network.config.resolution)
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)

        def elastic(x: torch.Tensor = x, architecture: object = architecture) -> None:
            step(lambda: supernet(architecture, x), supernet)

        def alone(x: torch.Tensor = x, network: torch.nn.Module = network) -> None:
            step(lambda: network.logits(x), network)

        ours, theirs = medians(elastic, alone, args.pairs)
        ratios.append(ours / theirs)
        times = f"elastic {1e3 * ours:.2f} ms  alone {1e3 * theirs:.2f} ms"
        print(f"{architecture.key}  {times}  {ours / theirs:.3f}")
    print(
        f"median ratio over {len(ratios)} networks of {args.space}: {statistics.median(ratios):.3f}", end=" "
    )
    print(f"(batch {args.batch}, {args.threads} threads, worst {max(ratios):.3f})")


def step(forward: Callable[[], tuple[torch.Tensor, ...]], module: torch.nn.Module) -> None:
    torch.stack([logits.square().mean() for logits in forward()]).sum().backward()
    module.zero_grad(set_to_none=True)


def medians(first: Callable[[], None], second: Callable[[], None], pairs: int) -> tuple[float, float]:
    """Median seconds of each, run in alternating order after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for pair in range(3 + pairs):
        order = ((0, first), (1, second)) if pair % 2 else ((1, second), (0, first))
        for which, work in order:
            start = time.perf_counter()
            work()
            if pair >= 3:
                times[which].append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
