"""Short ways to write the configs that these tests need."""

from dataclasses import replace

import torch

from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import (
    BlockConfig,
    ExitConfig,
    ExitPlace,
    HeadConfig,
    NetworkConfig,
    StemConfig,
)
from dynnas.nn.networks.network import build
from dynnas.nn.operators import OPERATORS
from dynnas.testing.conformance import macs, parameters


def block(
    kind,
    op="static",
    in_channels=8,
    out_channels=8,
    stride=1,
    kernel=3,
    expand=1.0,
    bank=4,
    attention="none",
    activation="relu",
    rank=None,
    splits=2,
):
    sizes = {"experts": bank, "group": bank, "splits": splits, "expand": expand, "rank": rank}
    return block_of_sizes(kind, op, in_channels, out_channels, sizes, stride, kernel, attention, activation)


def block_of_sizes(kind, op, in_channels, out_channels, sizes, stride, kernel, attention, activation):
    """A block whose operators take their knobs from `sizes`."""
    return BlockConfig(
        choice("block", kind, sizes),
        in_channels,
        out_channels,
        stride,
        kernel,
        choice("op", op, sizes),
        Choice(attention),
        Choice(activation),
    )


def choice(kind, name, sizes):
    """With those knobs of an operator whose size is not None; of a block that is unknown, with none."""
    if name not in OPERATORS[kind]:
        return Choice(name)
    found = {knob.name: sizes.get(knob.name, knob.default) for knob in OPERATORS[kind][name].knobs}
    return Choice.of(name, **{knob: value for knob, value in found.items() if value is not None})


def gated(config, gate, target=0.5, **knobs):
    """The block with a gate, with those knobs that are not None."""
    given = {name: value for name, value in {"target": target, **knobs}.items() if value is not None}
    return replace(config, gate=Choice.of(gate, **given))


def network(exits=(), ops=("static", "static")):
    """8x8 grey images, a stem of 6, blocks of 8 and 10 channels; `exits` are thresholds after the first."""
    blocks = (
        ("stage1.0", block("mbconv", ops[0], 6, 8, stride=2, expand=2.0)),
        ("stage2.0", block("dwsep", ops[1], 8, 10)),
    )
    places = tuple(
        ExitPlace(f"stage1-{index}", "stage1.0", ExitConfig(8, 12, "relu", 5), threshold)
        for index, threshold in enumerate(exits)
    )
    stem, head = StemConfig(1, 6, 3, 1, "hswish"), HeadConfig(10, 16, "relu", 0.2, 5)
    return NetworkConfig(1, 5, 8, stem, blocks, places, head)


def pictures(count, height=4, width=None):
    """Inputs (count, 8, height, width) of a block; square where no width is given."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 8, height, width or height, generator=generator)


def counts(config, size):
    """Multiply-adds and parameters of a slot's module on one image of that size."""
    with torch.device("meta"):
        module = build(config).eval()
        x = torch.empty(1, config.in_channels, *size)
    return macs(module, x), parameters(module)
