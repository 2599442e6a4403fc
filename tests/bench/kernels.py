"""Mixed convolutions: ours against timm's CondConv2d and against the static convolution.

    python tests/bench/kernels.py [--kinds pointwise,depthwise,dense] [--batches 1,16,128] [--experts 2,4,8]
        [--threads 2] [--clock wall] [--device cpu] [--backward-only|--forward-only] [--quick]

The three run in alternating order in one process, on the same images, bank and routing. Prints a row for
each case, then geometric means and worst cases per class, of medians over rounds. The clock is the wall, or
with `--clock cpu` the processor time of all threads: on a machine that others use it is the steadier one,
with `--threads 1` especially, as waiting threads spin. Cases that need more than `--gib` or `--gmacs` (in
timm's form) are skipped, and named at the end.

What can be gained is bounded by the machine. On the one this was written on, a core does at most 51 GMAC/s
(one 256x256 product), and oneDNN's grouped convolution, which timm calls, already does 31 to 45 where
kernels fit into the cache: dense 64 -> 64 at 28x28, 16 images, is 462 MMACs, at least 9.1 ms, and timm
takes 10.6. Pointwise at that size is 51 MMACs, at least 1.0 ms, and 6.4 MB read and written; timm takes 2.2
and one batched product 1.7. Depthwise does 9 multiply-adds for 8 bytes: memory decides, and timm is as fast
as the static convolution. What is left are kernels that pass the cache: dense 512 -> 512 at 7x7 writes,
lays out again and reads 9.4 MB of kernel for each image of 116 MMACs.

On two idle cores of an AMD EPYC (`--quick --experts 4 --gmacs 3 --seconds 0.08`): forward 1.21 times
timm's speed, 1.56 for pointwise and 1.97 for pointwise with 128 images; forward and backward 1.11; the
slowest case 0.90. The static convolution, whose kernel needs no mixing, is 1.5 times as fast as timm's in
the same run.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.dynamic_conv.mixing import mixed_conv
from dynnas.nn.layers.conv_shape import ConvShape

CHANNELS = (16, 64, 128, 256, 512)
SIZES = (7, 14, 28, 56)
NAMES = ("ours", "timm", "static")
Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One point of the grid."""

    kind: str
    experts: int
    channels: int
    size: int
    batch: int
    backward: bool

    @property
    def shape(self) -> ConvShape:
        """From as many channels to as many, stride 1."""
        kernel = 1 if self.kind == "pointwise" else 3
        groups = self.channels if self.kind == "depthwise" else 1
        return ConvShape(self.channels, self.channels, kernel, groups=groups)

    @property
    def macs(self) -> int:
        """Multiply-adds of the convolution and of mixing its kernels; thrice with the backward pass."""
        kernel = math.prod(self.shape.weight)
        return self.batch * kernel * (self.size**2 + self.experts) * (3 if self.backward else 1)

    @property
    def bytes(self) -> int:
        """What timm's form holds at its peak: copies of kernels and images, and their gradients."""
        floats = self.batch * (math.prod(self.shape.weight) + 2 * self.channels * self.size**2)
        return 4 * 2 * floats * (3 if self.backward else 1)


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    skipped = []
    ratios: dict[tuple[str, bool], list[tuple[float, float, Case]]] = defaultdict(list)
    print(
        f"{processor()}, torch {torch.__version__}, {args.threads} threads, {args.clock} clock, {args.device}"
    )
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    print("ms: ours, timm, static; how many times as fast as timm, as static; GMAC/s of ours")
    for case in grid(args):
        if case.bytes > args.gib * 2**30 or case.macs > args.gmacs * 1e9:
            skipped.append(case)
            continue
        ours, timm, static = measure(case, args)
        ratios[case.kind, case.backward].append((timm / ours, static / ours, case))
        print(
            f"{case.kind:9} K={case.experts} {case.channels:3} channels {case.size:2}x{case.size:<2} "
            f"batch {case.batch:3} {'f+b' if case.backward else 'fwd'}: {1e3 * ours:8.3f} {1e3 * timm:8.3f} "
            f"{1e3 * static:8.3f}  {timm / ours:6.2f} {static / ours:6.2f}  {case.macs / ours / 1e9:6.1f}",
            flush=True,
        )
    summarise(ratios)
    if skipped:
        print(f"skipped, above {args.gib:g} GiB or {args.gmacs:g} GMACs:")
        for case in skipped:
            print(f"  {case}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default="pointwise,depthwise,dense")
    parser.add_argument("--batches", default="1,16,128")
    parser.add_argument("--experts", default="2,4,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="at least this many, and at least --seconds")
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--layout", choices=("channels_first", "channels_last"), default="channels_first")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--gmacs", type=float, default=20.0)
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--backward-only", action="store_true")
    parser.add_argument("--quick", action="store_true", help="K = 4, and only a few channels and sizes")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(message="skipped: there is no CUDA device\n")
    return args


def grid(args: argparse.Namespace) -> Iterator[Case]:
    experts = (4,) if args.quick else tuple(int(number) for number in args.experts.split(","))
    places = [(c, s) for c in CHANNELS for s in SIZES]
    if args.quick:
        places = [(16, 56), (64, 28), (64, 14), (256, 14), (512, 7)]
    for kind in args.kinds.split(","):
        for backward in (False, True):
            if (backward and args.forward_only) or (not backward and args.backward_only):
                continue
            for batch in (int(number) for number in args.batches.split(",")):
                for number in experts:
                    for channels, size in places:
                        yield Case(kind, number, channels, size, batch, backward)


def measure(case: Case, args: argparse.Namespace) -> list[float]:
    """Median seconds of ours, timm's and the static convolution."""
    steps = make_steps(case, args)
    with torch.set_grad_enabled(case.backward):
        found = [step() for step in steps]
        del found
        times: list[list[float]] = [[] for _ in steps]
        begin = time.perf_counter()
        # Long cases stop at three rounds.
        while len(times[0]) < 3 or (
            time.perf_counter() - begin < 20 * args.seconds
            and (len(times[0]) < args.rounds or time.perf_counter() - begin < args.seconds)
        ):
            turn = len(times[0]) % len(steps)
            for which in (*range(turn, len(steps)), *range(turn)):
                start = now(args)
                steps[which]()
                times[which].append(now(args) - start)
    return [statistics.median(seconds) for seconds in times]


def make_steps(case: Case, args: argparse.Namespace) -> list[Step]:
    """A step of each, on the same tensors; ours and timm's are checked to agree."""
    shape = case.shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.batch, case.channels, case.size, case.size, generator=generator).to(args.device)
    if args.layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    theirs = cond_conv(case).to(args.device)
    flat = theirs.weight
    flat.data = torch.randn(flat.shape, generator=generator).to(args.device) * 0.1
    bank = flat.detach().view(case.experts, *shape.weight)
    coefficients = torch.rand(case.batch, case.experts, generator=generator).to(args.device)
    static = bank.mean(0)
    towards = torch.randn(x.shape, generator=generator).to(args.device)
    leaves = [x, bank, coefficients, static, flat]
    for leaf in leaves:
        leaf.requires_grad_(case.backward)

    def step(forward: Callable[[], Tensor]) -> Tensor:
        y = forward()
        if case.backward:
            y.backward(towards)
            for leaf in leaves:
                leaf.grad = None
        return y

    def ours() -> Tensor:
        return step(lambda: mixed_conv(x, bank, coefficients, None, shape, "auto"))

    def timm() -> Tensor:
        return step(lambda: theirs(x, coefficients))

    def plain() -> Tensor:
        return step(lambda: F.conv2d(x, static, None, 1, shape.padding, groups=shape.groups))

    torch.testing.assert_close(ours(), timm(), rtol=1e-3, atol=1e-3)
    return [ours, timm, plain]


def cond_conv(case: Case) -> torch.nn.Module:
    with warnings.catch_warnings(), torch.library._scoped_library("torchvision", "FRAGMENT") as operators:
        warnings.simplefilter("ignore")
        for name in ("nms", "qnms"):  # a torchvision of another build imports where they are declared
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from timm.layers import CondConv2d
    shape = case.shape
    return CondConv2d(
        case.channels,
        case.channels,
        shape.kernel,
        padding=shape.padding,
        groups=shape.groups,
        num_experts=case.experts,
    )


def summarise(ratios: dict[tuple[str, bool], list[tuple[float, float, Case]]]) -> None:
    """Geometric means per kind, batch and direction, and over everything; the worst against timm."""
    print(
        "\ngeometric means of how many times as fast: as timm, as static; and static, which mixes nothing, as"
    )
    print("timm; then the slowest against timm")
    for backward in (False, True):
        name = "forward+backward" if backward else "forward"
        everything = [row for (_, back), rows in ratios.items() if back == backward for row in rows]
        for (kind, back), rows in ratios.items():
            if back != backward:
                continue
            for batch in sorted({case.batch for *_, case in rows}):
                line(f"{name}, {kind}, batch {batch}", [row for row in rows if row[2].batch == batch])
            line(f"{name}, {kind}", rows)
        if everything:
            line(f"{name}, everything", everything)


def line(name: str, rows: list[tuple[float, float, Case]]) -> None:
    means = [statistics.geometric_mean(row[which] for row in rows) for which in (0, 1)]
    worst = min(rows, key=lambda row: row[0])
    case = worst[2]
    print(
        f"{name:40} {means[0]:6.2f} {means[1]:6.2f} {means[0] / means[1]:6.2f}   {worst[0]:.2f} at "
        f"K={case.experts}, {case.channels} channels, {case.size}x{case.size}, batch {case.batch} "
        f"({len(rows)} cases)"
    )


def now(args: argparse.Namespace) -> float:
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if args.clock == "cpu" else time.perf_counter()


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
