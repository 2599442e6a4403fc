"""What a dynamic kernel costs in ONNX Runtime at batch 1: a layer with router against a static convolution.

    python tests/bench/packing.py [--op condconv] [--experts 4] [--threads 1] [--rounds 60]

Each layer stands alone: the static convolution, the dynamic one in the portable graph, and packed for this
processor, timed in turns in one process. Prints the ratios of medians to the static convolution.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.runtimes.onnx.packing.packing import pack
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.onnx.trace import trace

CHANNELS = (16, 32, 64, 128, 256, 512)
SIZES = (7, 14, 28, 56)
MOST_MACS = 120e6
"""Larger layers take more than a few ms, where mixing no longer matters."""


class Layer(nn.Module):
    """A convolution of the op, with its bias, behind its router."""

    def __init__(self, op: str, shape: ConvShape, experts: int) -> None:
        super().__init__()
        sizes = {"experts": experts, "group": experts}
        knobs = {knob.name: sizes.get(knob.name, knob.default) for knob in KERNELS[op].knobs}
        self.router = KERNELS[op].router(shape.in_channels, {"conv": shape}, **knobs)
        self.conv = KERNELS[op](shape, **knobs)
        self.conv.absorb(torch.ones(shape.out_channels), torch.zeros(shape.out_channels))

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image, self.router(image)["conv"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--op", default="condconv")
    parser.add_argument("--experts", type=int, default=4, help="K, or g")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    ratios: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for (kind, kernel), channels, size in itertools.product(
        (("pointwise", 1), ("depthwise", 3), ("dense", 3)), CHANNELS, SIZES
    ):
        groups = channels if kind == "depthwise" else 1
        shape = ConvShape(channels, channels, kernel, groups=groups)
        if np.prod(shape.weight) * size**2 > MOST_MACS:
            continue
        static, portable, packed = milliseconds(args, shape, size)
        ratios[size >= 14].append((portable / static, packed / static))
        print(
            f"{kind:9} {channels:3} channels {size:2}x{size:<2}  static {static:.4f} ms  "
            f"portable {portable / static:.2f}  packed {packed / static:.2f}",
            flush=True,
        )
    for large, name in ((True, "14x14 and larger"), (False, "smaller")):
        portable, packed = (statistics.median(column) for column in zip(*ratios[large], strict=True))
        worst = max(ratio for _, ratio in ratios[large])
        print(f"{name}: median portable {portable:.2f}, packed {packed:.2f} (worst {worst:.2f})", end=" ")
        print(f"of {len(ratios[large])} shapes; {args.op}, {args.experts} experts, {args.threads} threads")


def milliseconds(args: argparse.Namespace, shape: ConvShape, size: int) -> tuple[float, ...]:
    """Medians for the static layer, the portable and the packed dynamic one."""
    image = torch.randn(1, shape.in_channels, size, size)
    graph = {
        op: trace(Layer(op, shape, args.experts), image, ["image"], ["logits"]) for op in ("static", args.op)
    }
    models = (graph["static"], graph[args.op], pack(graph[args.op]))
    runners = [OnnxRunner(model.SerializeToString(), args.threads) for model in models]
    times: list[list[float]] = [[] for _ in runners]
    order = list(range(len(runners)))
    for turn in range(5 + args.rounds):
        random.shuffle(order)
        for index in order:
            start = time.perf_counter()
            runners[index](image.numpy())
            if turn >= 5:
                times[index].append(time.perf_counter() - start)
    return tuple(1e3 * statistics.median(one) for one in times)


if __name__ == "__main__":
    main()
