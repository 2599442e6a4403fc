"""Small networks whose gates look at more than their block's input."""

from dataclasses import replace

import torch

from dynnas.nn.config.network import RECURRENT_UNITS, PolicyConfig, RecurrentConfig
from dynnas.nn.gates.features import Features
from dynnas.nn.networks.network import slot_module
from support import networks
from support.gated import with_gate

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
            blocks[index] = (slot, looking_at(with_gate(block, gate), looks))
    return with_what_is_read(replace(config, blocks=tuple(blocks)))


def looking_at(block, reads):
    """The gated block, whose gate looks at what the policy network, the LSTM or the block's input says."""
    if reads == "block":
        return block
    width = {"policy_width": WIDTH} if reads == "policy" else {}
    return replace(block, gate=block.gate.replaced(reads=reads, **width))


def with_what_is_read(config):
    """The config with the slots that its gates read."""
    reads = {block.gate_reads for _, block in config.blocks}
    policy = PolicyConfig(networks.CHANNELS, WIDTH, networks.CLASSES) if "policy" in reads else None
    recurrent = RecurrentConfig(networks.CHANNELS, RECURRENT_UNITS) if "recurrent" in reads else None
    return replace(config, policy=policy, recurrent=recurrent)


def halting_config(halts, exits=(), reads="block", **kinds):
    """A stem of 6 channels, a block to 8, then as many of 8 as there are `halts`, then one to 12.

    Exits stand behind the blocks of the numbers `exits`, 0 for the first.
    """
    config = networks.config(exits=1, **kinds)
    (first, last), middle = (config.blocks[0], config.blocks[-1]), config.blocks[1][1]
    blocks = [first]
    for index, gate in enumerate(halts, start=1):
        block = middle if gate == "none" else looking_at(with_gate(middle, gate), reads)
        blocks.append((f"stage1.{index}", block))
    place = config.exits[0]
    places = tuple(replace(place, name=f"stage1.{at}", after=f"stage1.{at}") for at in exits)
    return with_what_is_read(replace(config, blocks=(*blocks, last), exits=places))


@torch.no_grad()
def halting(config, seed=0):
    """A finished network in which images halt at different blocks."""
    network = networks.finished(config, seed)
    for slot, block in config.gated:
        if block.gate.name == "halt":
            features = network.slots[slot_module(slot)].gate[0]
            logits = said(network, features)
            features.expand.weight.mul_(4 / logits.std(0))
            features.expand.bias.sub_(said(network, features).median(0).values + 0.5)
    return network


@torch.no_grad()
def of_two_minds(config, seed=0):
    """A finished network in which images differ in what they run."""
    network = networks.finished(config, seed)
    for slot, block in config.gated:
        if block.gate.name == "channels":  # takes the best of many, which must not be alike
            continue
        features = network.slots[slot_module(slot)].gate[0]
        assert isinstance(features, Features)
        features.expand.weight.mul_(5)
        features.expand.bias.sub_(said(network, features).median(0).values)
    return network


def said(network, features):
    """The logits of a gate for some images."""
    found = []
    hook = features.register_forward_hook(lambda _, __, logits: found.append(logits))
    network.logits(networks.images(61, seed=99))
    hook.remove()
    return found[0]
