"""What the design rules of fast networks cost here: networks that keep and break one, at equal multiply-adds.

    python tests/bench/design_rules.py [--rounds 15] [--only branches]

The first four are the experiments of ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164, tables 1 to 4) with ten
blocks, in widths that are multiples of 16: others cost extra in ONNX Runtime, which an experiment of their
own shows. The last has the same multiply-adds at several resolutions. Networks run as ONNX graphs for one
image on one thread; in each round all of an experiment run once, in an order that turns. Printed are medians
of the processor's time for a multiply-add over that of the first network, which keeps the rule.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.nn.layers.macs import count_macs
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork

BLOCKS = 10


class Classified(nn.Module):
    """Layers and the mean of their maps, so that the output is small."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))


class Parallel(nn.Module):
    """Convolutions that read one map, and the sum of what they make."""

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(branches))

    def forward(self, x: Tensor) -> Tensor:
        return sum((branch(x) for branch in self.branches[1:]), self.branches[0](x)).relu()


class Bottleneck(nn.Module):
    """ResNet's unit of convolutions 1x1, 3x3 and 1x1, with or without ReLUs and its shortcut."""

    def __init__(self, width: int, relu: bool, shortcut: bool) -> None:
        super().__init__()
        inner = width // 4
        shapes = ((width, inner, 1), (inner, inner, 3), (inner, width, 1))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, padding=k // 2) for a, b, k in shapes)
        self.relu, self.shortcut = relu, shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = conv(y).relu() if self.relu else conv(y)
        return x + y if self.shortcut else y


class Active(nn.Module):
    """A 3x3 convolution and an activation."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.activation = nn.Conv2d(width, width, 3, padding=1), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(x))


def pairs(before: int, after: int) -> nn.Module:
    """Convolutions to other channels and back."""
    block = (nn.Conv2d(before, after, 1), nn.ReLU(), nn.Conv2d(after, before, 1), nn.ReLU())
    return Classified([layer for _ in range(BLOCKS) for layer in block])


def repeated(block: Callable[[], nn.Module], times: int = BLOCKS) -> nn.Module:
    return Classified([block() for _ in range(times)])


def grouped(width: int, groups: int) -> nn.Module:
    block = (nn.Conv2d(width, width, 1, groups=groups), nn.ReLU())
    return Classified([layer for _ in range(BLOCKS) for layer in block])


def series(width: int, parts: int) -> nn.Module:
    block = (nn.Conv2d(width, width, 1), nn.ReLU())
    return Classified([layer for _ in range(BLOCKS * parts) for layer in block])


Experiment = Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]]

EXPERIMENTS: Mapping[str, Experiment] = {
    "unequal channels": {
        f"{before} and {after}": (lambda b=before, a=after: pairs(b, a), (before, 56, 56))
        for before, after in ((128, 128), (64, 256), (48, 336), (32, 512))
    },
    "groups": {
        f"{groups} groups of {width // groups}": (lambda w=width, g=groups: grouped(w, g), (width, 56, 56))
        for groups, width in ((1, 128), (4, 256), (16, 512))
    },
    "branches": {
        "one": (lambda: series(128, 1), (128, 56, 56)),
        "four in a row": (lambda: series(64, 4), (64, 56, 56)),
        "sixteen in a row": (lambda: series(32, 16), (32, 56, 56)),
        "four side by side": (lambda: repeated(lambda: Parallel(64, 4)), (64, 56, 56)),
        "sixteen side by side": (lambda: repeated(lambda: Parallel(32, 16)), (32, 56, 56)),
    },
    "element-wise work": {
        "convolutions alone": (lambda: repeated(lambda: Bottleneck(128, False, False)), (128, 56, 56)),
        "ReLU": (lambda: repeated(lambda: Bottleneck(128, True, False)), (128, 56, 56)),
        "shortcut": (lambda: repeated(lambda: Bottleneck(128, False, True)), (128, 56, 56)),
        "ReLU and shortcut": (lambda: repeated(lambda: Bottleneck(128, True, True)), (128, 56, 56)),
    },
    "activations": {
        name: (lambda a=activation: repeated(lambda: Active(32, a())), (32, 56, 56))
        for name, activation in (
            ("none", nn.Identity), ("ReLU", nn.ReLU), ("ReLU6", nn.ReLU6), ("hswish", nn.Hardswish),
            ("SiLU", nn.SiLU),
        )
    },
    "channels beside sixteens": {
        f"{width} channels": (lambda w=width: series(w, 1), (width, 56, 56)) for width in (128, 124, 120, 104)
    },
    "early high resolution": {
        f"{side}x{side}, {width} channels": (
            lambda w=width: repeated(lambda: Active(w, nn.ReLU())), (width, side, side)
        )
        for side, width in ((14, 128), (28, 64), (56, 32), (112, 16), (224, 8))
    },
}  # fmt: skip


def measured(experiment: Experiment, rounds: int) -> dict[str, tuple[float, int]]:
    """Median milliseconds of the processor, and the multiply-adds, of each network."""
    runs, macs = {}, {}
    generator = np.random.default_rng(0)
    for name, (make, shape) in experiment.items():
        torch.manual_seed(0)
        module = make().eval()
        network = PlainNetwork(module, shape, shape[0]).eval()
        runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
        image = generator.standard_normal((1, *shape)).astype(np.float32)
        macs[name] = count_macs(module, torch.zeros(1, *shape))[1]
        runs[name] = (runner, image)
        runner(image)
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            runner, image = runs[name]
            start = time.thread_time()
            runner(image)
            found[name].append(1000 * (time.thread_time() - start))
    return {name: (statistics.median(times), macs[name]) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for rule in arguments.only:
        found = measured(EXPERIMENTS[rule], arguments.rounds)
        first = next(iter(found.values()))
        print(f"{rule}:", flush=True)
        for name, (median, macs) in found.items():
            print(
                f"  {name:<24} {macs / 1e6:7.1f} M multiply-adds ({macs / first[1]:.2f})  "
                f"{median:7.2f} ms ({median / first[0] * first[1] / macs:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
