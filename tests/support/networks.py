"""Small networks with values as after training, for tests of what happens to finished networks."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from dynnas.data.augment import Augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.nn.config.network import (
    ExitConfig,
    ExitPlace,
    HeadConfig,
    NetworkConfig,
    StemConfig,
)
from dynnas.nn.exits.exits import ExitPolicy, answer, is_confident_at, sureness
from dynnas.nn.networks.network import Network
from dynnas.tasks import Classification
from support.slot_configs import block_of_sizes

CHANNELS, RESOLUTION, CLASSES = 2, 12, 5


def first_confident(segments, x):
    """Run one image up to its exit and no further: logits (1, classes), index of the exit."""
    for index, segment in enumerate(segments):
        x = segment.body(x)
        output, place = segment.classifier(x), segment.exit
        if place is None:
            return output, index
        if is_confident_at(place, output):
            return answer(output, place.criterion), index
    raise ValueError("the last segment of a network has no exit")


def one_after_another(network, batch):
    """Run images each by itself: logits (B, classes) with which they leave, and the list of their exits."""
    found = [first_confident(network.segments(), image[None]) for image in batch]
    return torch.cat([logits for logits, _ in found]), [exit for _, exit in found]


def block(kind, op, in_channels, out_channels, stride=1, attention="none", activation="relu", kernel=3):
    sizes = {"experts": 3, "group": 2, "splits": 2, "rank": 0.5, "expand": 2.0 if kind == "mbconv" else 1.0}
    return block_of_sizes(kind, op, in_channels, out_channels, sizes, stride, kernel, attention, activation)


def config(
    kind="mbconv", op="static", exits=0, attention="none", activation="relu", width=1, criterion="confidence"
):
    """Three blocks of 8, 8 and 12 channels (times `width`) for 12x12 images, 0 to 2 exits after the first."""
    few, some, many = 6 * width, 8 * width, 12 * width
    kinds = {"attention": attention, "activation": activation}
    blocks = (
        ("stage1.0", block(kind, op, few, some, **kinds)),
        ("stage1.1", block(kind, op, some, some, **kinds)),
        ("stage2.0", block(kind, op, some, many, stride=2, kernel=5, **kinds)),
    )
    places = tuple(
        ExitPlace(name, name, ExitConfig(some, 10, activation, CLASSES, criterion), 0.5)
        for name in ("stage1.0", "stage1.1")[:exits]
    )
    stem = StemConfig(CHANNELS, few, kernel=3, stride=1, activation=activation)
    head = HeadConfig(many, width=16, activation=activation, dropout=0.2, classes=CLASSES)
    return NetworkConfig(CHANNELS, CLASSES, RESOLUTION, stem, blocks, places, head)


def images(count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, CHANNELS, RESOLUTION, RESOLUTION, generator=generator)


@torch.no_grad()
def finished(network_config, seed=0):
    """A calibrated network in eval mode, routers and classifiers not neutral, every exit often taken."""
    torch.manual_seed(seed)
    network = Network(network_config).train()
    for parameter in network.parameters():
        if parameter.ndim < 4:
            parameter.add_(torch.randn_like(parameter) * 0.3)
    policies = [module for module in network.modules() if isinstance(module, ExitPolicy)]
    for policy in policies:
        policy.see.weight.mul_(30)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches: small kernels are far from what a norm begins with
    for step in range(4):
        network.logits(images(60, seed=step))
    for norm in norms:
        norm.momentum = 0.1
    network.eval()
    *early, _ = network.logits(images(61, seed=99))
    for policy, output in zip(policies, early, strict=False):
        policy.say.bias.sub_(output[:, -1].median())
    # Half of the images that reach an exit leave there.
    *early, _ = network.logits(images(61, seed=99))
    here, exits = torch.ones(61, dtype=torch.bool), []
    for place, output in zip(network_config.exits, early, strict=True):
        sure = sureness(output, place.criterion)
        exits.append(replace(place, threshold=sure[here].median().item() + 1e-3))
        here &= sure < exits[-1].threshold
    network.config = replace(network_config, exits=tuple(exits))
    return network


def noise():
    """A data set of random images, larger than the networks take them."""
    generator = torch.Generator().manual_seed(3)

    def split(count):
        pixels = torch.randint(256, (count, CHANNELS, 16, 16), dtype=torch.uint8, generator=generator)
        return Split(pixels, torch.randint(CLASSES, (count,), generator=generator))

    return Dataset(
        name="noise",
        task=Classification(tuple("abcde")),
        train=split(8),
        search=split(70),
        test=split(30),
        mean=(0.4, 0.5),
        std=(0.2, 0.3),
        augmentation=Augmentation(),
    )


def one_by_one(runner, batch):
    """What a runner says of each image of a batch: (B, classes)."""
    return np.concatenate([runner(image[None].numpy()) for image in batch])
