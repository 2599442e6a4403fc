"""Small networks whose gates look at more than their block's input."""

from dataclasses import replace

import networks
import torch
from gated import with_gate

from dynnas.ops import slot_module
from dynnas.ops.gate_features import Features
from dynnas.space.network import PolicyConfig

WIDTH = 6


def reading_config(gates, reads="policy", exits=0, **kinds):
    """Four blocks of 8, 8, 8 and 12 channels; `gates` are those of the second, third and fourth."""
    config = networks.config(exits=exits, **kinds)
    first, second, last = config.blocks
    blocks = [first, second, ("stage1.2", second[1]), last]
    for index, gate in enumerate(gates, start=1):
        if gate != "none":
            slot, block = blocks[index]
            looks = reads if isinstance(reads, str) else reads[index - 1]
            width = WIDTH if looks == "policy" else None
            blocks[index] = (slot, replace(with_gate(block, gate), gate_reads=looks, gate_width=width))
    policy = PolicyConfig(networks.CHANNELS, WIDTH, networks.CLASSES)
    used = any(block.gate_reads == "policy" for _, block in blocks)
    return replace(config, blocks=tuple(blocks), policy=policy if used else None)


@torch.no_grad()
def of_two_minds(config, seed=0):
    """A finished network in which images differ in what they run."""
    network = networks.finished(config, seed)
    for slot, _ in config.gated:
        features = network.slots[slot_module(slot)].gate[0]
        assert isinstance(features, Features)
        features.expand.weight.mul_(5)
        seen = []
        hook = features.register_forward_hook(lambda _, __, logits, seen=seen: seen.append(logits))
        network.logits(networks.images(61, seed=99))
        hook.remove()
        features.expand.bias.sub_(seen[0].median(0).values)
    return network
