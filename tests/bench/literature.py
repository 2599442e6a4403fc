"""What techniques of the literature cost in ONNX Runtime, beside the network that does without them.

    python tests/bench/literature.py [--rounds 15] [--only skip_rnn jumps]

The techniques are those that `operators.py` and `gates.py` do not time. Each stands in a small network.
Beside it stands the same network, which computes everything or has the ordinary layer in its place. Weights
are random;
thresholds and biases are set so that about half of the images leave at the first exit, and half of the gates
are closed. In each round both run on the same images, one right after the other; told is the median over
rounds of one time over the other, on one thread, by the processor's clock, and the share of the multiply-adds
that is run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.own_branches import conv, leave

import dynnas.nn as dnn
from dynnas.latency.dependent import ways_of
from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.config.choice import Choice
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.gate import Gated
from dynnas.nn.registry import HEADS
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork

IMAGE, SEQUENCE, TOKENS = (3, 32, 32), (1, 28, 28), (1, 64, 128)
CLASSES, WIDTH, UNITS, PATCH, FRAMES = 10, 32, 64, 8, 16


def backbone() -> list[nn.Module]:
    """Return stages of a small network, which end in 4 * WIDTH channels at a quarter of the resolution."""
    return [
        nn.Sequential(conv(3, WIDTH), conv(WIDTH, WIDTH)),
        nn.Sequential(conv(WIDTH, 2 * WIDTH, 2), conv(2 * WIDTH, 2 * WIDTH)),
        nn.Sequential(conv(2 * WIDTH, 4 * WIDTH, 2), conv(4 * WIDTH, 4 * WIDTH)),
    ]


def classifier() -> nn.Module:
    """Return the network of those stages, with an ordinary head."""
    return nn.Sequential(*backbone(), leave(4 * WIDTH, CLASSES))


def with_head(head: nn.Module) -> nn.Module:
    """Return the network of those stages with a head on its 4 * WIDTH pooled features."""
    return nn.Sequential(*backbone(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def mlp(hidden: int) -> nn.Module:
    """Return two linear layers with hidden units between them."""
    return nn.Sequential(nn.Linear(4 * WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))


def with_exits(kind: Callable[..., nn.Module], *rest: int) -> nn.Module:
    """Return the network of those stages with an exit of a kind behind each."""
    exits = [leave(times * WIDTH, CLASSES) for times in (1, 2, 4)]
    return kind(backbone(), exits, *rest)


class Enlarged(nn.Module):
    """A map of the last stage, at twice its size, and the classes of its pixels."""

    def __init__(self, enlarge: nn.Module) -> None:
        super().__init__()
        self.stages, self.enlarge = nn.Sequential(*backbone()), enlarge
        self.classes = nn.Conv2d(4 * WIDTH, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.enlarge(self.stages(x))).mean((2, 3))


class Pixels(nn.Module):
    """A head of maps on those of all stages."""

    def __init__(self, kind: str, **knobs: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(backbone())
        channels, strides = (WIDTH, 2 * WIDTH, 4 * WIDTH), (1, 2, 4)
        choice = Choice.of(kind, neck=WIDTH, finest=1, **knobs)
        self.head = HEADS[kind](MapHeadConfig(choice, channels, strides, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x := stage(x) for stage in self.stages]
        return self.head(maps).mean((2, 3))


class Looks(nn.Module):
    """The networks of `RecurrentAttention`: each sees the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(classifier() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.networks[0](x) + self.networks[1](x)


def looks() -> nn.Module:
    """Return the same networks: the second sees a region, if the first is not sure."""
    networks = [nn.Sequential(*backbone(), nn.AdaptiveAvgPool2d(1), nn.Flatten()) for _ in range(2)]
    return dnn.RecurrentAttention(networks, [4 * WIDTH] * 2, CLASSES, IMAGE)


class FixedGlimpses(nn.Module):
    """The layers of `GlimpseRNN` on patches whose places are always the same."""

    def __init__(self, glimpses: int) -> None:
        super().__init__()
        self.core = dnn.GlimpseRNN(IMAGE, CLASSES, glimpses=1).stages[0].core
        self.head = nn.Linear(256, CLASSES)
        self.glimpses = glimpses

    def forward(self, x: Tensor) -> Tensor:
        core, state = self.core, x.new_zeros((x.shape[0], 256))
        for number in range(self.glimpses):
            at = 4 * number
            what = F.relu(core.patch(x[:, :, at : at + PATCH, at : at + PATCH])).flatten(1)
            state = F.relu(core.state(state) + core.glimpse(F.relu(core.what(what))))
        return self.head(state)


class Patches(nn.Module):
    """A network on patches of the image: on the best, or on all of a grid."""

    def __init__(self, count: int | None) -> None:
        super().__init__()
        scorer = nn.Sequential(nn.AvgPool2d(PATCH), nn.Conv2d(3, 1, 1))
        self.choose = dnn.PatchSelection(scorer, PATCH, count) if count else None
        self.network = classifier()

    def forward(self, x: Tensor) -> Tensor:
        if self.choose:
            patches = self.choose(x)
        else:
            grid = x.unflatten(2, (-1, PATCH)).unflatten(4, (-1, PATCH))
            patches = grid.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        return self.network(patches.flatten(0, 1)).unflatten(0, (x.shape[0], -1)).mean(1)


class Frames(nn.Module):
    """A network on frames, which here are the rows of an image taken together: on the best, or on all."""

    def __init__(self, count: int | None) -> None:
        super().__init__()
        scorer = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 1))
        self.choose = dnn.FrameSelection(scorer, count) if count else None
        self.network = classifier()

    def forward(self, x: Tensor) -> Tensor:
        frames = x[:, None] * torch.linspace(0.5, 1, FRAMES, device=x.device)[:, None, None, None]
        frames = self.choose(frames) if self.choose else frames
        return self.network(frames.flatten(0, 1)).unflatten(0, (x.shape[0], -1)).mean(1)


class Reader(nn.Module):
    """A recurrent layer on rows, and a head on its last state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(UNITS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x[:, 0])
        state = found[0][:, -1] if isinstance(found, tuple) else found
        return self.head(state[:, -1] if state.dim() == 3 else state)


class Row(nn.Module):
    """A network that takes sequences (B, T, inputs) as images of one channel."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x[:, 0])


class Tokens(nn.Module):
    """Four layers of a transformer and a head on the mean of the tokens."""

    def __init__(self, halting: bool) -> None:
        super().__init__()
        layers = [dnn.TokenLayer(TOKENS[2], 4) for _ in range(4)]
        self.body = dnn.HaltingTokens(layers, TOKENS[1], center=0.0) if halting else nn.Sequential(*layers)
        self.head = nn.Linear(TOKENS[2], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x[:, 0]).mean(1))


class Bilinear(nn.Module):
    """The ordinary way to enlarge a map."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


Build = Callable[[], nn.Module]

TECHNIQUES: dict[str, tuple[Build, Build, tuple[int, int, int]]] = {
    "carafe": (lambda: Enlarged(dnn.Carafe(4 * WIDTH)), lambda: Enlarged(Bilinear()), IMAGE),
    "pointrend": (
        lambda: Pixels("pointrend", points=10, layers=2), lambda: Pixels("pyramid", tower=1), IMAGE
    ),
    "early_exits": (lambda: with_exits(dnn.EarlyExits), classifier, IMAGE),
    "patience": (lambda: with_exits(dnn.PatientExits), classifier, IMAGE),
    "policy_exits": (lambda: with_exits(dnn.PolicyExits, CLASSES), classifier, IMAGE),
    "soft_tree": (
        lambda: with_head(dnn.SoftDecisionTree(4 * WIDTH, CLASSES, depth=4, hard=True)), classifier, IMAGE
    ),
    "neural_tree": (
        lambda: with_head(dnn.NeuralTree(4 * WIDTH, CLASSES, "((t.,.),(t.,.))", hard=True)), classifier, IMAGE
    ),
    "resolution": (lambda: dnn.DynamicResolution(classifier(), 3, [16, 32]), classifier, IMAGE),
    "recurrent_attention": (looks, Looks, IMAGE),
    "glimpses": (lambda: dnn.GlimpseRNN(IMAGE, CLASSES), lambda: FixedGlimpses(6), IMAGE),
    "patches": (lambda: Patches(4), lambda: Patches(None), IMAGE),
    "frames": (lambda: Frames(4), lambda: Frames(None), IMAGE),
    "conditional_mlp": (
        lambda: with_head(dnn.ConditionalMLP(4 * WIDTH, 4096, CLASSES)), lambda: with_head(mlp(4096)), IMAGE
    ),
    "skip_rnn": (
        lambda: Reader(dnn.SkipRNN(28, UNITS)), lambda: Reader(nn.GRU(28, UNITS, batch_first=True)), SEQUENCE
    ),
    "exits_in_time": (
        lambda: Row(dnn.ExitInTime(28, UNITS, CLASSES, steps=28, every=7)),
        lambda: Reader(nn.GRU(28, UNITS, batch_first=True)),
        SEQUENCE,
    ),
    "jumps": (
        lambda: Reader(dnn.JumpRNN(28, UNITS, steps=28, read=4)),
        lambda: Reader(nn.LSTM(28, UNITS, batch_first=True)),
        SEQUENCE,
    ),
    "token_halting": (lambda: Tokens(halting=True), lambda: Tokens(halting=False), TOKENS),
}  # fmt: skip
"""Of each technique: a network with it, one without it, and the shape of their images."""


@torch.no_grad()
def settle(network: nn.Module, images: Tensor) -> None:
    """Let about half of the images leave at the first exit, and half of the gates close."""
    for _ in range(10):
        network.train()(images)
    network.eval()
    for gate in [each for each in network.modules() if isinstance(each, Gated)]:
        features = gate.gate
        if isinstance(features[0], nn.Linear):  # of SkipRNN: an update is half due after each step
            features[0].weight.zero_()
            features[0].bias.zero_()
        elif hasattr(features[0], "expand"):
            seen: list[Tensor] = []
            hook = features[0].register_forward_hook(lambda _, __, said, seen=seen: seen.append(said))
            network(images)
            hook.remove()
            features[0].expand.bias.sub_(torch.cat(seen).flatten(0, -2).median(0).values)
    for exits in [each for each in network.modules() if isinstance(each, EarlyExits)]:
        first = dict(exits.exits.named_children()).get("0")
        if first is not None and not isinstance(exits, dnn.JumpRNN | dnn.PatientExits):
            said: list[Tensor] = []
            hook = first.register_forward_hook(lambda _, __, out, said=said: said.append(out))
            network(images)
            hook.remove()
            rest = [1.0] * (len(exits.thresholds) - 1)
            exits.thresholds = (float(exits.confidence(said[0]).median()), *rest)


def run_share(network: PlainNetwork, plain: PlainNetwork, images: Tensor) -> float:
    """Return the multiply-adds that images run in the mean, over those of the network without decisions."""
    size, ways = cost_of(network), ways_of(network, images)
    macs = ways.image_macs or [size.exit_macs[way] if size.exit_macs else size.macs for way in ways.taken]
    return float(np.mean(macs)) / cost_of(plain).macs


def ratio(models: tuple[PlainNetwork, PlainNetwork], images: Tensor, rounds: int) -> float:
    """Return the median over rounds of the first network's time over the second's."""
    runners = [OnnxRunner(to_onnx(model).SerializeToString(), threads=1) for model in models]
    inputs = [image[None].numpy() for image in images]
    found = []
    for number in range(rounds + 2):
        took = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.thread_time()
            for image in inputs:
                runners[which](image)
            took[which] = time.thread_time() - start
        found.append(took[0] / took[1])
    return statistics.median(found[2:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=TECHNIQUES, default=[*TECHNIQUES])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| technique | time | multiply-adds |\n| --- | ---: | ---: |")
    for name in args.only:
        dynamic, static, shape = TECHNIQUES[name]
        torch.manual_seed(0)
        images = torch.randn(args.images, *shape, generator=torch.Generator().manual_seed(1))
        modules = (dynamic(), static())
        for module in modules:
            settle(module, images)
        models = (
            PlainNetwork(modules[0], shape, CLASSES).eval(),
            PlainNetwork(modules[1], shape, CLASSES).eval(),
        )
        share, times = run_share(*models, images), ratio(models, images, args.rounds)
        print(f"| {name} | {times:.2f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
