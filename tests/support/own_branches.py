"""A network of one's own with dynamic kernels, gates and exits in the middle of ordinary code."""

import torch
from torch import nn

import dynnas.nn as dnn
from dynnas.nn.context import Context, supplied
from dynnas.nn.gates.gate import Gated


def conv(into, out, stride=1):
    return nn.Sequential(nn.Conv2d(into, out, 3, stride, 1), nn.BatchNorm2d(out), nn.ReLU())


def leave(channels, classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Branchy(nn.Module):
    """Shortcuts around gates, a gate inside a stage and as a whole stage, and work behind the exits."""

    def __init__(self, width=8, depth=2, op="condconv", gate="width", threshold=0.6, channels=3, classes=5):
        super().__init__()
        self.stem = conv(channels, width, 2)
        self.skips = nn.ModuleList(dnn.Skippable(conv(width, width), width) for _ in range(depth))
        self.gated = dnn.block("mbconv", width, width, expand=2, op=op, gate=gate, gate_target=0.5)
        self.mix = dnn.Conv2d(width, width, 3, padding=1, op=op)
        stages = [
            conv(width, width),
            nn.Sequential(conv(width, width, 2), dnn.Skippable(conv(width, width), width)),
            dnn.Skippable(conv(width, width), width),
        ]
        self.exits = dnn.EarlyExits(stages, [leave(width, classes) for _ in stages], threshold=threshold)
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x):
        first = x = self.stem(x)
        for skip in self.skips:
            x = x + skip(x)
        x = self.mix(self.gated(x)) + first
        outputs = self.exits(x)
        if self.training:
            return tuple(output * self.scale for output in outputs)
        return outputs * self.scale


@torch.no_grad()
def undecided(network, x):
    """In eval mode with statistics of `x`, of two minds at every gate and exit."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and module.out_features == len(network.scale):
            nn.init.normal_(module.weight, std=2.0)
    for _ in range(10):
        network.train()(x)
    network.eval()
    for gate in [module for module in network.modules() if isinstance(module, Gated)]:
        features = gate.gate[0]
        features.expand.weight.mul_(5)
        features.expand.bias.sub_(features(_input(network, gate, x)).flatten(0, -2).median(0).values)
    # Half of the images that reach an exit leave there.
    left, thresholds = torch.ones(len(x), dtype=torch.bool), []
    with supplied(network, Context()):
        *early, _ = network.exits.outputs(_input(network, network.exits, x))
    for output in early:
        sure = network.exits.confidence(output)
        thresholds.append(float(sure[left].median()) + 1e-3)
        left &= sure < thresholds[-1]
    network.exits.thresholds = tuple(thresholds)
    return network


def _input(network, layer, x):
    """What a layer is called with if everything is computed."""
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with supplied(network, Context()):
        network(x)
    hook.remove()
    return seen[0]
