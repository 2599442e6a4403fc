"""Positions: tiles of an image, computed with what lies around them, are those of the whole image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.contexts import decisions, executed, running
from support.slot_configs import block, gated
from torch import nn

from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.nn.gates.families.positions import Axis
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.network import build
from dynnas.nn.registry import BLOCKS
from dynnas.testing.conformance import lively


def tiled(kind="mbconv", tiles=2, target=0.5, **more):
    config = block(kind, **{"expand": 2.0, "rank": 0.5 if kind == "lowrank" else None, **more})
    return gated(config, "positions", target, tiles=tiles)


def pictures(count, *size):
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 8, *(size or (8, 8)), generator=generator)


def decision(chosen):
    return Decision(chosen.float(), chosen.float())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(BLOCKS)),
    st.integers(2, 4),
    st.sampled_from([1, 3, 5]),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
    st.integers(0, 99),
)
@torch.no_grad()
def test_any_tiles_are_those_of_the_whole(kind, tiles, kernel, size, seed):
    """By hand: the whole block, and pixels copied one by one from it or from the input."""
    module = lively(build(tiled(kind, tiles, kernel=kernel))).eval()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(4, tiles**2, generator=generator) < torch.tensor([0.1, 0.3, 0.6, 1.0])[:, None]
    x = pictures(4, *size)
    whole, expected = module.block(x), x.clone()
    for image in range(4):
        for row in range(size[0]):
            for column in range(size[1]):
                tile = row * tiles // size[0] * tiles + column * tiles // size[1]
                if chosen[image, tile]:
                    expected[image, :, row, column] = whole[image, :, row, column]
    scale = max(1.0, float(expected.abs().max()))
    assert torch.equal(module.masked(x, decision(chosen)), expected)
    torch.testing.assert_close(module.run(x, chosen), expected, rtol=0, atol=1e-5 * scale)
    alone = [module.alone(x[i : i + 1], chosen[i], decision(chosen[i : i + 1])) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), expected, rtol=0, atol=1e-5 * scale)


@given(st.integers(1, 40), st.integers(2, 8), st.integers(0, 6))
def test_tiles_cover_a_side_once_and_windows_reach_as_far_as_they_must(pixels, tiles, reach):
    axis = Axis.cut(pixels, tiles, reach)
    everything = range(pixels)
    assert [pixel for tile in axis.tiles for pixel in everything[tile.own]] == list(everything)
    for tile in axis.tiles:
        read = everything[tile.read]
        assert len(read) == axis.length
        assert list(read[tile.inside]) == list(everything[tile.own])
        for pixel in everything[tile.own]:
            around = range(max(0, pixel - reach), min(pixels, pixel + reach + 1))
            assert set(around) <= set(read)


def test_a_tile_in_a_corner_reads_around_it_on_two_sides_only():
    assert Axis.cut(14, 2, 1).length == 8
    assert Axis.cut(16, 4, 1).length == 6


@torch.no_grad()
def test_only_the_tiles_are_run():
    module = build(tiled()).eval()
    sizes = []
    module.block.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    x = pictures(3)
    chosen = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    module.run(x, chosen)
    assert sizes == [(3, 8, 5, 5)]
    sizes.clear()
    module.run(x, torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool())
    assert sizes == [(1, 8, 8, 8), (1, 8, 5, 5)]  # three windows of 25 pixels are more than 64
    sizes.clear()
    module.run(x, torch.zeros(3, 4, dtype=torch.bool))
    assert sizes == []


@torch.no_grad()
def test_multiply_adds_are_those_of_windows():
    """8 to 8 channels, 16 hidden; 8x8 pixels in four tiles that read 5x5 each."""
    module = build(tiled()).eval()
    pixel = 8 * 16 + 16 * 9 + 16 * 8
    for choice, pixels in zip(module.choices(), (0, 25, 50, 64, 64), strict=True):
        assert count_macs(Alone(module, choice), pictures(1))[1] == pixels * pixel


class Alone(nn.Module):
    def __init__(self, module, choice):
        super().__init__()
        self.module, self.choice = module, choice

    def forward(self, x):
        return self.module.alone(x, self.choice, decision(self.choice[None]))


@torch.no_grad()
def test_the_gate_counts_its_means_its_convolution_and_its_layers():
    module = build(tiled()).eval()
    module.gate[0].expand.bias.copy_(torch.tensor([1.0, 0.0]))
    module = executed(module, "real")
    means = 8 * (2 * 8 * 8 + 2 * 2 * 8)
    logits = 8 * 4 + 4 * (9 * 8 * 4) + 4 * (4 * 2)  # of 4 hidden units, 4 tiles
    assert count_macs(module, pictures(1))[1] == means + logits


@torch.no_grad()
def test_the_gate_looks_at_means_of_tiles():
    module = lively(build(tiled())).eval()
    x, seen = pictures(2, 5, 7), []
    module.gate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(x)
    rows, columns = (slice(0, 3), slice(3, 5)), (slice(0, 4), slice(4, 7))
    for v in range(2):
        for h in range(2):
            torch.testing.assert_close(seen[0][:, :, v, h], x[:, :, rows[v], columns[h]].mean((2, 3)))


@pytest.mark.parametrize("estimator", ["gumbel", "straight", "soft"])
def test_usage_counts_tiles_and_every_tile_learns(estimator):
    module = build(tiled()).train()
    module = running(module, GateMode(estimator=estimator, temperature=1.0))
    torch.manual_seed(0)
    with decisions(module) as found:
        y = module(pictures(30))
    (only,) = found
    tiles = torch.arange(5.0)
    torch.testing.assert_close(only.usage @ tiles, only.weights.sum(1))
    torch.testing.assert_close(only.usage.sum(1), torch.ones(30))
    hard = bool(((only.usage == 0) | (only.usage == 1)).all())
    assert hard == (estimator != "soft")
    for loss in (y.square().sum(), (only.usage @ tiles).sum()):
        module.zero_grad()
        loss.backward(retain_graph=True)
        assert all(float(p.grad.abs().sum()) > 0 for p in module.gate.parameters() if p.dim() > 1)


def test_tiles_are_words_of_the_language():
    space = parse_space(
        "input: {resolutions: 8}\nstem: {width: 8}\n"
        "stages:\n- {width: 8, depth: 2, gate: [none, positions], gate_tiles: [2, 4]}"
    )
    assert space.gene("stage1.1.gate_tiles").condition == (("stage1.1.gate", ("positions",)),)
    assert not [gene.name for gene in space.genes if gene.name.startswith("stage1.0.gate")]
    largest = space.covering_configs(1, 10)["stage1.1"]
    assert {(found.gate.name, found.gate.get("tiles")) for found in largest} == {
        ("positions", 4),
        ("none", None),
    }


def test_what_makes_no_sense_says_so():
    with pytest.raises(SpaceError, match="keeps the shape of its input"):
        build(tiled(out_channels=9))
    with pytest.raises(SpaceError, match="no sense with op 'condconv': it looks at the whole image"):
        build(tiled(op="condconv"))
    with pytest.raises(SpaceError, match="no sense with attention 'se'"):
        build(tiled(attention="se"))
    with pytest.raises(SpaceError, match="no sense with activation 'dyrelu_b'"):
        build(tiled(activation="dyrelu_b"))
    with pytest.raises(SpaceError, match="'positions' has a knob 'tiles', and its config has none"):
        build(tiled(tiles=None))
