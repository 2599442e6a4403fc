"""Multi-scale layers: their arithmetic by hand, MSDNet's published counts, and that nothing is mixed up."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import one_after_another, one_by_one
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.language.parser import parse_space
from dynnas.latency.runner import build_runner
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.exits.exits import leave
from dynnas.nn.layers.maps import pack, unpack
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.network import Network, build
from dynnas.runtimes.batches import build_batch_runner
from dynnas.runtimes.torch.export import to_pt2
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import largest, smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.testing.conformance import lively

# MSDNet for CIFAR-10 as released (anytime: 24 layers, 3 scales, growth 6, 1-2-4, 10 exits).
CIFAR = """
input: {channels: 3, classes: 10, resolutions: 32}
stem: {width: 16}
stages:
  - {block: msd, depth: 8, width: 6}
  - {block: msd, depth: 8, width: 6, finest: 1, keep: 0.5}
  - {block: msd, depth: 8, width: 6, finest: 2, keep: 0.5}
"""
ORDERS = {
    "MSDNet": "{block: msd, depth: 2, width: 4}, {block: msd, depth: 2, width: 4, finest: 1, keep: 0.5}",
    "RANet": "{block: msd, depth: 1, width: 4, finest: 2, links: both}, {block: msd, depth: 2, width: 4, "
    "finest: 1, links: both}, {block: msd, depth: 1, width: 4, links: both, bottleneck: 0}",
}
EXITS = "exits: {positions: [stage1, stage2.0], count: 2, width: 8, thresholds: 0.5}"


def space(stages, resolution=8, more=""):
    return parse_space(
        f"input: {{channels: 2, classes: 4, resolutions: {resolution}}}\nstem: {{width: 4}}\n"
        f"stages: [{stages}]\n{more}"
    )


def released(layers, scales=3, growth=6, channels=16):
    """Multiply-adds of the released model without classifiers, by the shapes of its convolutions.

    `--prune max --reduction 0.5 --bnFactor 1-2-4 --grFactor 1-2-4` of its code.
    """
    factor, pixels = [2**scale for scale in range(scales)], [1024 // 4**scale for scale in range(scales)]
    total = 3 * 9 * channels * pixels[0]
    for scale in range(1, scales):
        total += channels**2 * factor[scale - 1] * factor[scale] * 9 * pixels[scale]

    def bottleneck(source, target, made):
        seen = channels * factor[source]
        inner = min(seen, factor[source] * made)
        return seen * inner * pixels[source] + inner * made * 9 * pixels[target]

    interval = math.ceil(layers / scales)
    for layer in range(1, layers + 1):
        dropped, before = (layer - 1) // interval, max(0, layer - 2) // interval
        for scale in range(dropped, scales):
            made = growth * factor[scale]
            if scale == dropped and before == dropped:
                total += bottleneck(scale, scale, made)
            else:
                total += bottleneck(scale - 1, scale, made // 2) + bottleneck(scale, scale, made // 2)
        channels += growth
        if dropped > before:
            fewer = channels // 2
            total += sum(
                channels * fewer * factor[scale] ** 2 * pixels[scale] for scale in range(dropped, scales)
            )
            channels = fewer
    return total, channels * factor[-1]


def test_the_released_msdnet_costs_what_it_does():
    net = parse_space(CIFAR)
    config = net.network_config(largest(net))
    macs, channels = released(24)
    assert (macs, channels) == (79_400_960, 332)
    assert config.head.in_channels == channels
    assert cost(config).macs == macs + channels * 10


def test_a_layer_worked_out_by_hand():
    # 4 and 8 channels on 8x8 and 4x4; 2 new ones on the finer scale, 4 on the coarser: 2 by each link.
    net = space("{block: msd, depth: 1, width: 2, scales: 2, bottleneck: 0}")
    config = net.network_config(largest(net))
    stem, make = 2 * 4 * 9 * 64, 4 * 8 * 9 * 16
    layer = 4 * 2 * 9 * 64 + (4 * 2 + 8 * 2) * 9 * 16
    assert config.head.in_channels == 12
    assert config.blocks[0][1].out_channels == 6 * 4 + 12
    assert cost(config).macs == stem + make + layer + 12 * 4


def test_packing_loses_nothing_and_puts_the_coarsest_last():
    maps = tuple(torch.randn(3, 2 + scale, 8 // 2**scale, 12 // 2**scale) for scale in range(3))
    packed = pack(maps)
    assert packed.shape == (3, 2 * 16 + 3 * 4 + 4, 2, 3)
    assert torch.equal(packed[:, -4:], maps[2])
    assert all(torch.equal(one, two) for one, two in zip(unpack(packed, [2, 3, 4]), maps, strict=True))


def test_a_layer_is_the_papers_formula():
    """x_s' = [x_s, h(x_s) and h~(x_s-1) in turns], with the batch norms at their start (the identity)."""
    net = space("{block: msd, depth: 2, width: 4, scales: 2, bottleneck: 0}")
    config = net.network_config(largest(net)).blocks[1][1]
    torch.manual_seed(0)
    layer = build(config).eval()
    fine, coarse = torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)
    found = layer((fine, coarse))
    kernel = {name: part.conv.conv.joined() / math.sqrt(1 + 1e-5) for name, part in (
        ("fine", layer.grow["0"].own), ("own", layer.grow["1"].own), ("down", layer.grow["1"].down)
    )}  # fmt: skip
    assert_close(found[0], torch.cat([fine, F.conv2d(fine, kernel["fine"], padding=1).relu()], 1))
    own = F.conv2d(coarse, kernel["own"], padding=1).relu()
    down = F.conv2d(fine, kernel["down"], padding=1, stride=2).relu()
    assert own.shape == down.shape == (2, 4, 4, 4)
    assert_close(found[1][:, :16], coarse)
    assert_close(found[1][:, 16::2], own)
    assert_close(found[1][:, 17::2], down)


def test_a_dropped_scale_is_read_once_more_and_then_forgotten():
    net = space("{block: msd, depth: 1, width: 2}, {block: msd, depth: 2, width: 2, finest: 1}")
    first, second = (build(block).eval() for _, block in net.network_config(largest(net)).blocks[1:])
    assert set(first.grow) == set(second.grow) == {"1", "2"}
    assert first.grow["1"].down is not None
    assert second.grow["1"].down is None
    maps = (torch.randn(1, 6, 8, 8), torch.randn(1, 12, 4, 4), torch.randn(1, 24, 2, 2))
    other = (maps[0] + 1, *maps[1:])
    assert not torch.equal(first(maps)[1], first(other)[1])
    after, changed = first(maps), (first(maps)[0] + 1, *first(maps)[1:])
    assert torch.equal(second(after)[1], second(changed)[1])
    assert second(after)[0] is after[0]


def test_weights_belong_to_the_same_features_in_every_width_and_depth():
    stages = "{block: msd, depth: [1, 3], width: [2, 6], bottleneck: 0}, {block: msd, width: [2, 4]}"
    net = space(stages)
    supernet = staged_supernet(net, 2, 4)
    shared = dict(supernet.slots["stage2__0"].named_parameters())["msd/grow/0/own/reduce/conv/stage0"]
    assert shared.shape[1:3] == (3, 6)  # layers of stage 1, and channels of each
    values = dict(smallest(net).items())
    narrow = supernet.extract(net.architecture({**values, "stage1.depth": 3, "stage1.1.kernel": 3,
        **{f"stage1.{layer}.{name}": values[f"stage1.0.{name}"] for layer in (1, 2)
           for name in ("block", "kernel", "op", "attention", "activation")}}))  # fmt: skip
    kernel = narrow.slots["stage2__0"].grow["0"].own.reduce.conv
    # Four channels of the stem, then two each of three layers: of layer j the first two of its six.
    expected = torch.cat([shared[: len(kernel.weight), layer, :2] for layer in range(3)], dim=1)
    assert_close(kernel.joined()[:, 4:], expected, rtol=0, atol=0)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("order", ORDERS)
def test_all_at_once_is_one_after_another(order):
    network = finished(order)
    batch = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, exits = leave(network.logits(batch), network.config.exits)
        alone, taken = one_after_another(network, batch)
    assert set(exits.tolist()) == {0, 1, 2}
    assert exits.tolist() == taken
    assert_close(logits, alone, rtol=1e-4, atol=1e-4)
    for runtime in ("onnxruntime", "onnxruntime_portable", "torch"):
        target = TargetSettings(runtime=runtime)
        assert_allclose(one_by_one(build_runner(network, target), batch), logits, rtol=1e-3, atol=1e-3)
        for execution in ("masked", "compacted"):
            said, left = build_batch_runner(network, target, execution)(batch.numpy())
            assert np.array_equal(left, exits)
            assert_allclose(said, logits, rtol=1e-3, atol=1e-3)


def finished(order):
    """A network in eval mode with exits at the median of the confidences that reach them."""
    net = space(ORDERS[order], more=EXITS)
    torch.manual_seed(0)
    network = lively(Network(net.network_config(largest(net)))).eval().requires_grad_(False)
    early = network.logits(torch.randn(101, 2, 8, 8))[:-1]
    for place, output in zip(network.config.exits, early, strict=True):
        object.__setattr__(place, "threshold", float(output.softmax(1).amax(1).median()) + 1e-4)
    return network


@pytest.mark.slow
def test_the_exported_program_has_the_scales_too():
    network = finished("MSDNet")
    batch = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    program = to_pt2(network).module()
    with torch.no_grad():
        logits, exits = leave(network.logits(batch), network.config.exits)
        outputs = [program(image[None]) for image in batch]
    assert [int(exit) for _, exit in outputs] == exits.tolist()
    assert_allclose(torch.cat([one for one, _ in outputs]), logits, rtol=1e-3, atol=1e-3)


def test_configs_survive_json():
    net = space(ORDERS["RANet"], more=EXITS)
    config = net.network_config(largest(net))
    assert config_from_dict(config_to_dict(config)) == config
    plain = space("{width: 8}")
    stored = config_to_dict(plain.network_config(largest(plain)))
    assert "scales" not in stored["blocks"][0][1]  # as networks were stored before there were any
