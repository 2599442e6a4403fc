"""What elasticity costs networks that know nothing of dynnas: a step on shared weights against one alone.

    python tests/bench/elastic_any.py [--networks 8] [--batch 64] [--pairs 7] [--threads 1]

A convolutional network, a vision transformer and a UNet as anyone would write them. Alternating pairs in one
process. `again` is a step of an architecture whose module is kept; `first` of one that is run for the first
time, whose module has to be built.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.elastic import medians
from support.own_networks import ConvNet, UNet, ViT

import dynnas as dn
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest

SPACES = (
    dn.Space.of(ConvNet, depth=[3, 4], width=[16, 24, 32], kernel=[3, 5], activation=["relu", "silu"]),
    dn.Space.of(ViT, dim=[96, 144, 192], depth=[4, 6], heads=[3, 6], mlp_ratio=[2, 4], patch=4, size=32),
    dn.Space.of(UNet, width=[8, 12, 16], depth=[2, 3]),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"batch {args.batch}, {args.threads} threads, medians of {args.pairs} alternating pairs")
    x = torch.randn(args.batch, 3, 32, 32)
    for space in SPACES:
        supernet = dn.Supernet(space).train()
        rng = random.Random(0)
        drawn = (sample(space, rng) for _ in range(10 * args.networks))
        members = list(dict.fromkeys([smallest(space), largest(space), *drawn]))[: args.networks]
        ratios: dict[str, list[float]] = {"again": [], "first": []}
        for member in members:
            alone = partial(step, supernet.extract(member), x)
            for name, elastic in (
                ("again", partial(step, supernet, member, x)),
                ("first", partial(first, supernet, member, x)),
            ):
                ours, theirs = medians(elastic, alone, args.pairs)
                ratios[name].append(ours / theirs)
        for name, found in ratios.items():
            print(
                f"{space.name:8} {name}: {statistics.median(found):.3f} of the network alone "
                f"(from {min(found):.3f} to {max(found):.3f}, {len(found)} networks)"
            )


def step(module: torch.nn.Module, *inputs: object) -> None:
    module(*inputs).square().mean().backward()
    module.zero_grad(set_to_none=True)


def first(supernet: dn.Supernet, member: Architecture, x: torch.Tensor) -> None:
    supernet.slots["network"]._skeletons.clear()
    step(supernet, member, x)


if __name__ == "__main__":
    main()
