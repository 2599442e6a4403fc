"""Multiply-adds and parameters, worked out by hand.

Blocks of 8 channels in, 12 out, 3x3, stride 2, on 7x5 images: 4x3 = 12 pixels out. Banks of 4 kernels.
Batch norms add 2 parameters a channel; other element-wise work (residuals, gates) counts as nothing.
"""

import pytest
import torch
from support.slot_configs import block, counts
from torch import nn

from dynnas.nn.config.network import ExitConfig, HeadConfig, StemConfig
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import macs, parameters

# conv: one kernel of 12*8*9 = 864 weights, at 12 pixels.
CONV = 864 * 12, 864 + 24
# dwsep: depthwise 8*9 = 72 at 12 pixels; pointwise 12*8 = 96 at 12 pixels.
DWSEP = 72 * 12 + 96 * 12, 72 + 16 + 96 + 24
# mbconv, expand 2: 16*8 = 128 at 35 pixels; depthwise 16*9 = 144 at 12; project 12*16 = 192 at 12.
MBCONV = 128 * 35 + 144 * 12 + 192 * 12, 128 + 32 + 144 + 32 + 192 + 24

# What an op adds for convolutions of (input channels, output channels, kernel weights).
CONVS = {
    "conv": [(8, 12, 864)],
    "dwsep": [(8, 8, 72), (8, 12, 96)],
    "mbconv": [(8, 16, 128), (16, 16, 144), (16, 12, 192)],
}


def extra(op, block_kind):
    """MACs and parameters that a bank of 4 and its router add to the static block, fed by 8 channels."""
    convs = CONVS[block_kind]
    weights = sum(weight for _, _, weight in convs)
    if op == "static":
        return 0, 0
    if op == "condconv":  # one linear layer 8 -> 4 for the block
        return 4 * weights + 8 * 4, 3 * weights + 8 * 4 + 4
    if op == "dyconv":  # Ci -> Ci // 4 + 1 -> 4 for each convolution, and its mixed bias
        hidden = [(channels, channels // 4 + 1) for channels, _, _ in convs]
        products = sum(channels * units + units * 4 for channels, units in hidden)
        more = products + sum(4 * out_channels for _, out_channels, _ in convs)
        return 4 * weights + more, 3 * weights + more + sum(units + 4 for _, units in hidden)
    # dynet: a linear layer 8 -> 4 * Co for each convolution
    coefficients = sum(4 * out_channels for _, out_channels, _ in convs)
    return 4 * weights + 8 * coefficients, 3 * weights + 8 * coefficients + coefficients


@pytest.mark.parametrize("op", ["static", "condconv", "dyconv", "dynet"])
@pytest.mark.parametrize(("kind", "static"), [("conv", CONV), ("dwsep", DWSEP), ("mbconv", MBCONV)])
def test_blocks(kind, static, op):
    config = block(kind, op, 8, 12, stride=2, expand=2.0)
    more_macs, more_parameters = extra(op, kind)
    assert counts(config, (7, 5)) == (static[0] + more_macs, static[1] + more_parameters)


def test_some_totals_in_plain_numbers():
    assert counts(block("conv", "static", 8, 12, stride=2), (7, 5)) == (10368, 888)
    # 10368 + 4 * 864 + 8 * 4; 888 + 3 * 864 + 36
    assert counts(block("conv", "condconv", 8, 12, stride=2), (7, 5)) == (13856, 3516)
    # 10368 + 4 * 864 + (8 * 3 + 3 * 4) + 4 * 12; 888 + 3 * 864 + 36 + 7 + 48
    assert counts(block("conv", "dyconv", 8, 12, stride=2), (7, 5)) == (13908, 3571)
    # 10368 + 4 * 864 + 8 * 48; 888 + 3 * 864 + 8 * 48 + 48
    assert counts(block("conv", "dynet", 8, 12, stride=2), (7, 5)) == (14208, 3912)


def test_ops_without_a_bank():
    # hypernet: generated from 64 numbers; settled it is the static convolution
    generator = 8 * 64 * 64 + 8 * 64 + 12 * 64 * 9 + 12 * 9 + 64
    assert counts(block("conv", "hypernet", 8, 12, stride=2), (7, 5))[1] == 24 + generator
    with torch.device("meta"):
        module = build(block("conv", "hypernet", 8, 12, stride=2)).eval()
    settle(module)
    assert (macs(module, torch.empty(1, 8, 7, 5, device="meta")), parameters(module)) == CONV
    # deformable: a convolution to 27 channels; 5 multiply-adds for each of 8 * 9 samples at 12 pixels
    assert counts(block("conv", "deformable", 8, 12, stride=2), (7, 5)) == (
        CONV[0] + 27 * 72 * 12 + 5 * 72 * 12,
        CONV[1] + 27 * 72 + 27,
    )
    # pac: 8 -> 8 at 35 pixels; distances of 8 guides and the weighing of 8 channels, for 9 taps at 12 pixels
    assert counts(block("conv", "pac", 8, 12, stride=2), (7, 5)) == (
        CONV[0] + 64 * 35 + 16 * 9 * 12,
        CONV[1] + 64,
    )
    # dfn: 8 -> 2 -> 8 * 9 for the depthwise convolution
    assert counts(block("dwsep", "dfn", 8, 12, stride=2), (7, 5)) == (
        DWSEP[0] + 16 + 144,
        DWSEP[1] + 18 + 144,
    )


def test_other_banks():
    # dynet_layer in dwsep: 8 -> 4 * 8, and 8 -> 4 * 12
    weights = 72 + 96
    assert counts(block("dwsep", "dynet_layer", 8, 12, stride=2), (7, 5)) == (
        DWSEP[0] + 4 * weights + 8 * 80,
        DWSEP[1] + 3 * weights + 8 * 80 + 80,
    )
    # weightnet, M = 8 and G = 2: 8 -> 16 -> 2 * 4 * 12, and M / G kernels
    assert counts(block("conv", "weightnet", 8, 12, stride=2), (7, 5)) == (
        CONV[0] + 4 * 864 + 8 * 16 + 16 * 96,
        CONV[1] + 3 * 864 + 8 * 16 + 16 + 16 * 96 + 96,
    )


def test_squeeze_excite():
    plain, with_se = (block("conv", "static", 8, 12, stride=2, attention=a) for a in ("none", "se"))
    macs_difference, parameter_difference = (
        b - a for a, b in zip(counts(plain, (7, 5)), counts(with_se, (7, 5)), strict=True)
    )
    # 12 -> 3 -> 12
    assert macs_difference == 36 + 36
    assert parameter_difference == 36 + 3 + 36 + 12


def test_no_expansion_has_no_first_convolution():
    # depthwise 8*9 = 72 at 12 pixels, project 12*8 = 96 at 12
    assert counts(block("mbconv", "static", 8, 12, stride=2, expand=1.0), (7, 5)) == (
        72 * 12 + 96 * 12,
        72 + 16 + 96 + 24,
    )


def test_stem_and_classifiers():
    # 6*3*9 = 162 at 4x4 pixels
    assert counts(StemConfig(3, 6, 3, 2, "relu"), (8, 8)) == (162 * 16, 162 + 12)
    # 10*8 = 80 at 12 pixels, linear 10 -> 5
    widened = (80 * 12 + 50, 80 + 20 + 50 + 5)
    assert counts(ExitConfig(8, 10, "relu", 5), (4, 3)) == widened
    assert counts(HeadConfig(8, 10, "relu", 0.5, 5), (4, 3)) == widened
    assert counts(HeadConfig(8, 0, "relu", 0.0, 5), (4, 3)) == (40, 45)


def test_plain_activations_cost_nothing():
    plain = ("sign", "relu", "relu6", "hswish", "silu")
    found = {counts(block("mbconv", expand=2.0, activation=name), (7, 5)) for name in plain}
    assert len(found) == 1


@pytest.mark.parametrize(("name", "outputs"), [("dyrelu_a", 4), ("dyrelu_b", 4 * 12)])
def test_dynamic_relu(name, outputs):
    # 12 -> 3 -> coefficients, and two lines for each of 12 * 12 values
    extra_macs, extra_parameters = (12 * 3 + 3 * outputs + 2 * 144, 12 * 3 + 3 + 3 * outputs + outputs)
    plain, dynamic = (block("conv", "static", 8, 12, stride=2, activation=a) for a in ("relu", name))
    macs_before, parameters_before = counts(plain, (7, 5))
    assert counts(dynamic, (7, 5)) == (macs_before + extra_macs, parameters_before + extra_parameters)


def test_other_attentions():
    plain, with_cbam, with_eca = (
        counts(block("conv", "static", 8, 12, stride=2, attention=a), (7, 5)) for a in ("none", "cbam", "eca")
    )
    # cbam: 12 -> 1 -> 12 for each of two pools, and 2 * 49 weights at 12 pixels; eca: 3 taps for 12 channels
    assert with_cbam == (plain[0] + 2 * 24 + 98 * 12, plain[1] + 24 + 98 + 2)
    assert with_eca == (plain[0] + 36, plain[1] + 3)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("training", [False, True])
def test_recurrent_layers_of_torch(kind, gates, training):
    """Two layers of 6 units in both directions, on 5 steps of 7 numbers; the second reads 12."""
    layer = getattr(nn, kind)(7, 6, 2, bidirectional=True, batch_first=True).train(training)
    expected = 5 * 2 * gates * 6 * ((7 + 6) + (12 + 6))
    assert count_macs(layer, torch.randn(1, 5, 7))[1] == expected


def test_a_bilinear_layer_multiplies_every_pair():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.Bilinear(4, 5, 6)

        def forward(self, x):
            return self.both(x[:, :4], x[:, 4:])

    assert count_macs(Both(), torch.randn(3, 9))[1] == 3 * 4 * 5 * 6
