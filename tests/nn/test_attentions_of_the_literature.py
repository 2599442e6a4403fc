"""BAM, SRM and gather-excite: against torch's layers and others' numbers of parameters."""

import pytest
import torch
from support.witness import assert_same, copy_weights
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.registry import ATTENTIONS
from dynnas.testing.conformance import lively

RESNET50 = [(256, 3), (512, 4), (1024, 6), (2048, 3)]
"""Channels after the blocks of a stage, and its blocks."""


def weights(attention, channels):
    return sum(parameter.numel() for parameter in ATTENTIONS[attention](channels).parameters())


@torch.no_grad()
def test_bam_against_its_equations():
    ours = lively(ATTENTIONS["bam"](32)).eval()
    x = torch.randn(2, 32, 9, 8)
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    norm = ours.expand.norm
    channels = ours.squeeze(pooled) @ ours.expand.conv.weight[:, :, 0, 0].T
    channels = (channels - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    places = x
    for number, unit in enumerate(ours.places):
        dilation = 4 if number in (1, 2) else 1
        padding = 4 if number in (1, 2) else 0
        places = unit.norm(F.conv2d(places, unit.conv.weight, None, 1, padding, dilation))
        places = places if number == 3 else places.relu()
    expected = x + x * torch.sigmoid(channels[:, :, None, None].expand_as(x) + places.expand_as(x))
    assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


def test_bam_after_three_stages_of_resnet50_adds_what_the_authors_code_does():
    # pytorchcv counts 25,915,099 in `bam_resnet50`, built as the authors' code is, and 25,557,032 without it.
    # That code has the channels' norm before the last layer, a bias in each convolution, and no last norm.
    ours = sum(weights("bam", channels) for channels, _ in RESNET50[:3])
    moved = sum(channels - 5 * (channels // 16) + 1 for channels, _ in RESNET50[:3])
    assert ours - moved == 25_915_099 - 25_557_032


@torch.no_grad()
def test_srm_against_mean_and_deviation_of_torch():
    ours = lively(ATTENTIONS["srm"](6)).eval()
    x = torch.randn(2, 6, 9, 8)
    mean, deviation = x.mean((2, 3)), x.flatten(2).std(2, correction=0)
    z = ours.style.conv.weight[:, 0, 0, 0] * mean + ours.style.conv.weight[:, 1, 0, 0] * deviation
    expected = x * torch.sigmoid(ours.style.norm(z[:, :, None, None]))
    assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)


def test_srm_in_residual_networks_adds_what_was_counted_elsewhere():
    # github.com/EvgenyKashin/SRMnet: ResNet-32 has 466,906 weights without and 469,146 with it, ResNet-50
    # 25,557,032 and 25,617,448.
    assert sum(5 * weights("srm", channels) for channels in (16, 32, 64)) == 469_146 - 466_906
    assert sum(blocks * weights("srm", channels) for channels, blocks in RESNET50) == 25_617_448 - 25_557_032


def test_srm_has_a_gradient_where_a_channel_is_constant():
    x = torch.ones(2, 6, 1, 1, requires_grad=True)
    ATTENTIONS["srm"](6).eval()(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("halvings", [1, 2])
def test_gather_excite_against_a_chain_of_torchs_layers(halvings):
    # timm has it as GatherExcite(extra_params=True), which cannot be built in the version at hand.
    layers = [
        layer
        for _ in range(halvings)
        for layer in (nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    ]
    theirs = lively(nn.Sequential(*layers[:-1])).eval()
    ours = ATTENTIONS["gather_excite"](6, halvings=halvings).eval()
    parts = {f"gather.{step}.conv": f"{3 * step}" for step in range(halvings)}
    parts |= {f"gather.{step}.norm": f"{3 * step + 1}" for step in range(halvings)}
    copy_weights(ours, theirs, parts)

    def excited(x):
        return x * torch.sigmoid(nn.Upsample(x.shape[2:])(theirs(x)))

    assert_same(ours, excited, torch.randn(2, 6, 9, 8))
