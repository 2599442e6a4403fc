"""Networks that decide for each image what they run, and save a given share of their multiply-adds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

sys.path.append(str(Path(__file__).parents[1]))

from support.contexts import decisions
from torch import Tensor

from dynnas.metrics.budgeted import fit_thresholds
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import (
    GLANCE_EXIT,
    RECURRENT_UNITS,
    RESOLUTION_SLOT,
    BlockConfig,
    ExitConfig,
    ExitPlace,
    GlanceConfig,
    HeadConfig,
    NetworkConfig,
    PolicyConfig,
    RecurrentConfig,
    ResolutionConfig,
    StemConfig,
)
from dynnas.nn.exits.exits import leave, sureness
from dynnas.nn.gates.costs import GateCost, total_macs
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.features import Features
from dynnas.nn.gates.gate import one_of
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.network import Network, slot_module

WHOLE = ("resolution", "glance", "exits")
"""Families that decide of the whole network."""

READING = {"skip-policy": "policy", "skip-recurrent": "recurrent"}
"""Gates that look at something else than their block's input."""

FAMILIES = (*GATES, *READING, *WHOLE)

STAGES = ((16, 1), (32, 2), (64, 2))
DEPTH, CLASSES, POLICY_WIDTH = 4, 10, 16
SIZES, GLANCE = (0.5, 0.7, 1.0), 0.6
"""Of the resolution: what is chosen from, and what both looks see."""


def deciding_network(kind: str, family: str, resolution: int, times: int) -> Network:
    """Three stages; gates are in all blocks but, where they keep the shape, each stage's first."""
    gate = "none" if family in WHOLE else family.partition("-")[0]
    blocks, before = [], 16 * times
    for stage, (width, stride) in enumerate(STAGES, start=1):
        for layer in range(DEPTH):
            wanted = gate if layer or gate == "none" or not GATES[gate].keeps_shape else "none"
            reads = READING.get(family, "block") if wanted != "none" else "block"
            block = BlockConfig(
                Choice.of(kind, **({"expand": 4.0} if kind == "mbconv" else {})),
                in_channels=before,
                out_channels=times * width,
                stride=1 if layer else stride,
                kernel=3,
            )
            if wanted != "none":
                looks = {} if reads == "block" else {"reads": reads}
                looks |= {"policy_width": POLICY_WIDTH} if reads == "policy" else {}
                own = {knob.name: knob.default for knob in GATES[wanted].knobs}
                block = replace(block, gate=Choice.of(wanted, target=0.5, **looks, **own))
            blocks.append((f"stage{stage}.{layer}", block))
            before = times * width
    stem = StemConfig(3, 16 * times, 3, 1, "relu")
    head = HeadConfig(before, 0, "relu", 0.0, CLASSES)
    plain = NetworkConfig(3, CLASSES, resolution, stem, tuple(blocks), (), head)
    torch.manual_seed(0)
    network = Network(_with_family(plain, family)).train()
    for step in range(3):
        network.logits(torch.randn(32, 3, resolution, resolution, generator=generator(step)))
    return network.eval()


def _with_family(config: NetworkConfig, family: str) -> NetworkConfig:
    """With what a family needs beside its gates."""
    if family == "skip-policy":
        return replace(config, policy=PolicyConfig(3, POLICY_WIDTH, CLASSES))
    if family == "skip-recurrent":
        return replace(config, recurrent=RecurrentConfig(3, RECURRENT_UNITS))
    if family == "resolution":
        sizes = tuple(round(size * config.resolution) for size in SIZES)
        return replace(config, choice=ResolutionConfig(3, sizes, 0.5))
    if family == "exits":
        ends = {slot: block for slot, block in config.blocks if slot.endswith(f".{DEPTH - 1}")}
        return replace(config, exits=tuple(_exit(slot, ends[slot]) for slot in list(ends)[:-1]))
    if family == "glance":
        slot, last = config.blocks[-1]
        glance = GlanceConfig(3, config.resolution, round(GLANCE * config.resolution))
        head = replace(config.head, in_channels=2 * last.out_channels)
        place = replace(_exit(slot, last), name=GLANCE_EXIT)
        return replace(config, exits=(place,), head=head, glance=glance)
    return config


def _exit(slot: str, block: BlockConfig) -> ExitPlace:
    config = ExitConfig(block.out_channels, block.out_channels, "relu", CLASSES)
    return ExitPlace(slot.partition(".")[0], slot, config, 0.5)


@torch.no_grad()
def set_saving(network: Network, images: Tensor, saving: float) -> float:
    """Let `images` save this share of what may be left out, in the mean; what the network saves.

    Of gates that are the multiply-adds of their blocks, otherwise those of the network.
    """
    gates = {block.gate.name for _, block in network.config.gated}
    if network.config.exits:
        _set_thresholds(network, images, saving)
    elif gates & {"channels", "moe"}:
        _keep(network, 1 - saving)
    elif "halt" in gates:
        _halt(network, images, saving)
    else:
        _set_biases(network, images, saving)
    return _saved(network, images)


def _set_thresholds(network: Network, images: Tensor, saving: float) -> None:
    """As many leave at each exit."""
    outputs = network.logits(images)
    sure = torch.stack([sureness(output) for output in outputs[:-1]])
    places = network.config.exits

    def saved(share: float) -> float:
        thresholds = fit_thresholds(sure, [share] * len(places))
        network.config = replace(
            network.config,
            exits=tuple(
                replace(place, threshold=threshold)
                for place, threshold in zip(places, thresholds, strict=True)
            ),
        )
        return _saved(network, images)

    _bisect(saved, saving, 0.0, 1 / len(places))


def _keep(network: Network, share: float) -> None:
    """`channels` and `moe` keep a share by their config."""
    blocks = tuple(
        (slot, replace(block, gate=block.gate.replaced(target=share)) if block.gated else block)
        for slot, block in network.config.blocks
    )
    network.config = replace(network.config, blocks=blocks)
    other = Network(network.config).eval()
    other.load_state_dict(network.state_dict())
    network.slots = other.slots


def _halt(network: Network, images: Tensor, saving: float) -> None:
    """The gates of `halt` decide together: one bias for all."""
    every = [_features(network, slot) for slot, _ in network.config.gated]
    for number, features in enumerate(every):
        _spread(network, features, images, number, 2.0)
    whole = cost(network.config)
    full = sum(gate.full for gate in whole.gates)

    def saved(bias: float) -> float:
        for features in every:
            features.expand.bias.fill_(bias)
        with decisions(network) as decided:
            network.logits(images)
        return 1 - float(total_macs(whole.gates, decided).mean()) / full

    _bisect(saved, saving, -12.0, 12.0)


def _set_biases(network: Network, images: Tensor, saving: float) -> None:
    """Set one gate after the other: what a gate sees depends on those before it."""
    for number, gate in enumerate(cost(network.config).gates):
        _set_bias(network, images, saving, number, gate)


def _set_bias(network: Network, images: Tensor, saving: float, number: int, gate: GateCost) -> None:
    features, gated = _features(network, gate.slot), network.slots[slot_module(gate.slot)]
    asked, name = (features, "forward") if gate.slot == RESOLUTION_SLOT else (gated, "decide")
    seen: list[Tensor] = []
    decide = getattr(asked, name)
    with mock.patch.object(asked, name, lambda x, *rest: seen.append(x) or decide(x, *rest)):
        means = _spread(network, features, images, number, 1.0)
    steps = torch.linspace(0, 1, len(means))

    def saved(shift: float) -> float:
        features.expand.bias.copy_(-means - shift * steps)
        said = decide(seen[0])
        usage = one_of(said, gated.chooser).usage if isinstance(said, Tensor) else said.usage
        return 1 - float(gate.image_macs(usage).mean()) / gate.full

    _bisect(saved, saving, -8.0, 8.0)


def _features(network: Network, slot: str) -> Features:
    """What makes the logits of a gate."""
    module = network.slots[slot_module(slot)]
    found = module.look[-1] if slot == RESOLUTION_SLOT else module.gate[0]
    assert isinstance(found, Features)
    return found


def _spread(network: Network, features: Features, images: Tensor, seed: int, spread: float) -> Tensor:
    """Give logits that differ by `spread` between images; their means, without a bias."""
    found: list[Tensor] = []
    features.expand.weight.normal_(generator=generator(seed))
    features.expand.bias.zero_()
    hook = features.expand.register_forward_hook(lambda _, __, logits: found.append(logits.flatten(0, -2)))
    network.logits(images)
    hook.remove()
    features.expand.weight.mul_(spread / found[0].std(0).mean())
    return found[0].mean(0) * spread / found[0].std(0).mean()


def _bisect(saved: Callable[[float], float], wanted: float, low: float, high: float) -> None:
    """Call `saved`, which grows, until it has been called where it is nearly `wanted`."""
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if saved(middle) < wanted else (low, middle)


def _saved(network: Network, images: Tensor) -> float:
    """Of all multiply-adds of the network in which nothing decides, as a mean over the images."""
    with decisions(network) as found:
        outputs = network.logits(images)
    _, exits = leave(outputs, network.config.exits)
    use = GateUse.of(cost(network.config), exits, found)
    return 1 - sum(use.image_macs) / len(images) / cost(_plain(network.config)).macs


def _plain(config: NetworkConfig) -> NetworkConfig:
    return replace(config.without_gates().without_glance(), exits=())


def undecided(network: Network) -> Network:
    """The same blocks with the same weights, all run by every image."""
    plain = Network(_plain(network.config)).eval()
    for slot, config in network.config.blocks:
        module = network.slots[slot_module(slot)]
        plain.slots[slot_module(slot)] = module.block if config.gated else module
    shared: list[str] = ["stem"] if network.config.glance else ["stem", "head"]
    for slot in shared:
        plain.slots[slot] = network.slots[slot]
    return plain


def generator(seed: int) -> torch.Generator:
    """Of random numbers that are the same in every run."""
    return torch.Generator().manual_seed(seed)
