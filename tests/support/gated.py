"""Small finished networks with gates that are of two minds."""

from dataclasses import replace

import torch

from dynnas.nn.config.choice import Choice
from dynnas.nn.exits.exits import leave
from dynnas.nn.gates.family import GATES
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.network import build, slot_module
from dynnas.runtimes.folding import fold_batchnorm
from support import networks
from support.contexts import executed
from support.slot_configs import gated


def gated_config(gates, **kinds):
    """The config of `networks.config`, with gates in its second and third block."""
    config = networks.config(**kinds)
    places = dict(zip(("stage1.1", "stage2.0"), gates, strict=True))
    if places["stage2.0"] == "skip":  # the last block changes the shape
        places = {"stage2.0": gates[0], "stage1.1": "skip"}
    return replace(
        config,
        blocks=tuple(
            (slot, with_gate(block, places[slot]) if slot in places else block)
            for slot, block in config.blocks
        ),
    )


def with_gate(block, gate, target=0.5, experts=4, tiles=2):
    sizes = {"experts": experts, "tiles": tiles}
    return gated(block, gate, target, **{knob.name: sizes[knob.name] for knob in GATES[gate].knobs})


@torch.no_grad()
def undecided(config, seed=0):
    """A finished network in which images differ in what they run."""
    network = networks.finished(config, seed)
    seen = {}
    for slot, _ in config.gated:
        gated = network.slots[slot_module(slot)]
        hook = gated.register_forward_pre_hook(lambda _, x, slot=slot: seen.update({slot: x[0]}))
        network.logits(networks.images(61, seed=99))
        hook.remove()
        features = gated.gate[0]
        features.expand.weight.mul_(5)
        logits = features(seen[slot]).flatten(0, -2)
        # Images whose features are all zero would tie: rounding would decide for them.
        apart = 0.002 * (torch.arange(logits.shape[1]) + 0.5)
        features.expand.bias.sub_(logits.median(0).values + apart)
    return network


@torch.no_grad()
def assert_masked_equals_real(network, images):
    """Images leave with the same logits by the same exits, with gates masked, run really, and one by one."""
    logits, left = leave(network.logits(images), network.config.exits)
    network = executed(network, "real")
    together = leave(network.logits(images), network.config.exits)[0]
    alone, taken = networks.one_after_another(network, images)
    torch.testing.assert_close(together, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-4)
    assert taken == left.tolist()


def macs_of_runs(network, images, exits):
    """What each image costs that leaves by these exits, counted on what it really runs alone."""
    really = fold_batchnorm(network)
    really = executed(really, "real")
    found = []
    for image, taken in zip(images, exits, strict=True):
        spent, y = 0, image[None]
        for segment in really.segments()[: taken + 1]:
            y, body = count_macs(segment.body, y)
            spent += body + count_macs(segment.classifier, y)[1]
        found.append(spent)
    return found


@torch.no_grad()
def of_channels(gated, own):
    """A block of its own with the weights of some hidden channels of a gated mbconv of 8 channels."""
    narrow = build(
        replace(gated.config.without_gate(), block=Choice.of("mbconv", expand=len(own) / 8))
    ).eval()
    for (name, tensor), wide in zip(
        narrow.state_dict().items(), gated.block.state_dict().values(), strict=True
    ):
        if tensor.ndim:
            axis = 1 if name == "project.conv.weight" else 0
            tensor.copy_(wide if tensor.shape == wide.shape else wide.index_select(axis, own))
    return narrow
