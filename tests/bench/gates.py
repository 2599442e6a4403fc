"""What gates save by the clock, for what they save in multiply-adds.

    python tests/bench/gates.py [--saving 0.4] [--rounds 30] [--clock wall] [--gates skip width channels]

A network of three stages of four blocks (mbconv, and basic as a network of dense kernels), with one family's
gates in every block where it makes sense, stands beside the same network without gates. The gates look at the
image through random weights; their biases are set so that the images that are timed save a given share of
the multiply-adds of the gated blocks, in the mean, the gates' own cost included. So every family is compared
at the same saving, and what is timed is what decides and runs, not what a training made of it.

In each round both run on the same images, one right after the other; what is told is the median over rounds.
*ratio* is the share of the time saved over that of the multiply-adds saved: 1 if time follows arithmetic, and
below 0 if the gates make the network slower. At batch 1 real branching: torch, and ONNX Runtime from the
graph that ships. At batch 64 in torch, compacted: images that want the same run together; and masked.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dynnas.measure import cost
from dynnas.measure.accuracy import GateUse
from dynnas.ops import GATES, Network, decisions, slot_module
from dynnas.ops.gate_costs import total_macs
from dynnas.runtime import build_batch_runner, build_runner
from dynnas.space.network import BlockConfig, HeadConfig, NetworkConfig, StemConfig
from dynnas.space.settings import TargetSettings
from dynnas.space.vocabulary import KEEPING_GATES

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
BATCH, IMAGES = 64, 64
STAGES = ((16, 1), (32, 2), (64, 2))
DEPTH = 4


@dataclass(frozen=True)
class Pair:
    """A gated network and the same without gates, ready to run in one way."""

    way: str
    gated: Callable[[np.ndarray], object]
    plain: Callable[[np.ndarray], object]
    inputs: tuple[np.ndarray, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    args = _arguments(argv)
    torch.set_num_threads(1)
    print("| gates | block | way | MACs saved % | time saved % | ratio | ms without |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for gate in args.gates:
        for kind in args.blocks:
            network = gated_network(kind, gate, args.resolution, args.width)
            images = torch.randn(IMAGES, 3, args.resolution, args.resolution, generator=_generator(1))
            saved = set_saving(network, images, args.saving)
            for pair in pairs(network, images):
                plain, gated = alternate(pair, args.rounds, CLOCKS[args.clock])
                time_saved = 1 - gated / plain
                print(
                    f"| {gate} | {kind} | {pair.way} | {100 * saved:.0f} | {100 * time_saved:.0f} "
                    f"| {time_saved / saved:.2f} | {plain:.3f} |",
                    flush=True,
                )
    return 0


def gated_network(kind: str, gate: str, resolution: int, times: int) -> Network:
    """Three stages; the family's gates in all blocks but, where they keep the shape, each stage's first."""
    blocks, before = [], 16 * times
    for stage, (width, stride) in enumerate(STAGES, start=1):
        for layer in range(DEPTH):
            wanted = gate if layer or gate not in KEEPING_GATES else "none"
            block = BlockConfig(
                block=kind, in_channels=before, out_channels=times * width, kernel=3,
                stride=1 if layer else stride, expand=4.0 if kind == "mbconv" else 1.0,
                op="static", experts=None, group=None, attention="none", activation="relu",
                gate=wanted, gate_target=None if wanted == "none" else 0.5,
                gate_experts=4 if wanted == "moe" else None,
                gate_tiles=2 if wanted == "positions" else None,
            )  # fmt: skip
            blocks.append((f"stage{stage}.{layer}", block))
            before = times * width
    config = NetworkConfig(
        3,
        10,
        resolution,
        StemConfig(3, 16 * times, 3, 1, "relu"),
        tuple(blocks),
        (),
        HeadConfig(64 * times, 0, "relu", 0.0, 10),
    )
    torch.manual_seed(0)
    network = Network(config).train()
    for step in range(3):
        network.logits(torch.randn(32, 3, resolution, resolution, generator=_generator(step)))
    return network.eval()


@torch.no_grad()
def set_saving(network: Network, images: Tensor, saving: float) -> float:
    """Make gates save this share of their blocks' multiply-adds on `images`; what the network saves."""
    if any(block.gate in ("channels", "moe") for _, block in network.config.gated):
        _keep(network, 1 - saving)
        return _saved(network, images)
    if any(block.gate == "halt" for _, block in network.config.gated):
        _halt(network, images, saving)
        return _saved(network, images)
    seen: dict[str, Tensor] = {}
    for slot, _ in network.config.gated:  # in order: what a gate sees hangs on those before it
        gated = network.slots[slot_module(slot)]
        features = gated.gate[0]
        hooks = [
            part.register_forward_pre_hook(lambda _, x, key=key: seen.update({key: x[0]}))
            for part, key in ((gated, slot), (features, "features"))
        ]
        network.logits(images)
        for hook in hooks:
            hook.remove()
        features.expand.weight.normal_(generator=_generator(len(seen)))
        logits = features(seen["features"]).flatten(0, -2)
        features.expand.weight.div_(logits.std(0).mean())
        features.expand.bias.sub_(features(seen["features"]).flatten(0, -2).mean(0))
        bias = features.expand.bias.clone()
        low, high = -8.0, 8.0
        for _ in range(16):
            middle = (low + high) / 2
            features.expand.bias.copy_(bias + middle * torch.linspace(0, 1, len(bias)))
            costs = next(each for each in cost(network.config).gates if each.slot == slot)
            usage = gated.decide(seen[slot]).usage
            used = float(costs.image_macs(usage).mean()) / costs.full
            low, high = (middle, high) if used < 1 - saving else (low, middle)
    return _saved(network, images)


def _keep(network: Network, share: float) -> None:
    """The same for `channels` and `moe`, which keep a share by their config."""
    blocks = tuple(
        (slot, replace(block, gate_target=share) if block.gated else block)
        for slot, block in network.config.blocks
    )
    network.config = replace(network.config, blocks=blocks)
    other = Network(network.config).eval()
    other.load_state_dict(network.state_dict())
    network.slots = other.slots


def _halt(network: Network, images: Tensor, saving: float) -> None:
    """The same for `halt`, whose gates decide together: one bias for all."""
    every = [network.slots[slot_module(slot)].gate[0] for slot, _ in network.config.gated]
    for number, features in enumerate(every):
        features.expand.weight.normal_(generator=_generator(number))
        found: list[Tensor] = []
        hook = features.register_forward_hook(lambda _, __, logits, found=found: found.append(logits))
        network.logits(images)
        hook.remove()
        features.expand.weight.mul_(2 / found[0].std())
    whole = cost(network.config)
    full = sum(gate.full for gate in whole.gates)
    low, high = -12.0, 12.0
    for _ in range(16):
        middle = (low + high) / 2
        for features in every:
            features.expand.bias.fill_(middle)
        with decisions() as decided:
            network.logits(images)
        used = float(total_macs(whole.gates, decided).mean()) / full
        low, high = (low, middle) if used < 1 - saving else (middle, high)


def _saved(network: Network, images: Tensor) -> float:
    """Of all of the network's multiply-adds without gates, as a mean over the images."""
    with decisions() as found:
        network.logits(images)
    use = GateUse.of(network.config, torch.zeros(len(images), dtype=torch.int64), found)
    return 1 - float(np.mean(use.image_macs)) / cost(network.config.without_gates()).macs


def without_gates(network: Network) -> Network:
    """The same blocks with the same weights."""
    plain = Network(network.config.without_gates()).eval()
    for slot, config in network.config.blocks:
        module = network.slots[slot_module(slot)]
        plain.slots[slot_module(slot)] = module.block if config.gated else module
    plain.slots["stem"], plain.slots["head"] = network.slots["stem"], network.slots["head"]
    return plain


def pairs(network: Network, images: Tensor) -> Iterator[Pair]:
    """Every way to run it."""
    plain = without_gates(network)
    pixels = images.numpy()
    ones = tuple(pixels[[index]] for index in range(len(pixels)))
    for runtime in ("torch", "onnxruntime"):
        target = TargetSettings(runtime=runtime)
        yield Pair(f"{runtime}, batch 1", build_runner(network, target), build_runner(plain, target), ones)
    target = TargetSettings(runtime="torch")
    whole = build_batch_runner(plain, target, "masked")
    for execution in ("compacted", "masked"):
        runner = build_batch_runner(network, target, execution)
        yield Pair(f"torch, batch {BATCH}, {execution}", runner, whole, (pixels[:BATCH],))


def alternate(pair: Pair, rounds: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Milliseconds an input, without gates and with: medians over rounds of the mean over inputs."""
    found: dict[str, list[float]] = {"plain": [], "gated": []}
    for turn in range(rounds + 2):
        sums = dict.fromkeys(found, 0.0)
        for image in pair.inputs:
            order = ("plain", "gated") if turn % 2 else ("gated", "plain")
            for name in order:
                run = getattr(pair, name)
                start = clock()
                run(image)
                sums[name] += clock() - start
        if turn >= 2:  # the first rounds warm up
            for name, seconds in sums.items():
                found[name].append(1000 * seconds / len(pair.inputs))
    return statistics.median(found["plain"]), statistics.median(found["gated"])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saving", type=float, default=0.4, help="share of the gated blocks' multiply-adds")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--width", type=int, default=1, help="times the channels")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--gates", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--blocks", nargs="+", default=["mbconv", "basic"])
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
