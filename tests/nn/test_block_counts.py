"""Multiply-adds and parameters of blocks, worked out by hand.

Blocks of 8 channels in, 12 out, 3x3, stride 2, on 7x5 images: 35 pixels in, 4x3 = 12 out. Convolutions are
listed as weights @ pixels. Batch norms add 2 parameters a channel.
"""

import pytest
import torch
from support.slot_configs import block, counts

from dynnas.nn.config.network import StemConfig
from dynnas.nn.networks.network import build

# (weights, pixels) of every convolution, and the channels of the batch norms.
WORKED = {
    # 12*8*9, 12*12*9, shortcut 12*8
    "basic": ([(864, 12), (1296, 12), (96, 12)], 12 + 12 + 12),
    # inner 3: 3*8, 3*3*9, 12*3, shortcut
    "bottleneck": ([(24, 35), (81, 12), (36, 12), (96, 12)], 3 + 3 + 12 + 12),
    # inner 16: 16*8*9, 12*16
    "fused_mbconv": ([(1152, 12), (192, 12)], 16 + 12),
    # squeezed 1: 1*8, 6*1, 6*1*9
    "fire": ([(8, 35), (6, 12), (54, 12)], 1 + 6 + 6),
    # 8*9, 12*8, 12*9, 12*12 before the pooling, shortcut
    "sepconv": ([(72, 35), (96, 35), (108, 35), (144, 35), (96, 12)], 12 + 12 + 12),
    # rank 12/4 = 3: 3*8*9, 12*3; no batch norm between
    "lowrank": ([(216, 12), (36, 12)], 12),
    # inner 16: 8*8, 8*9, strided 16*9, 6*16, 6*9, shortcut 8*9 and 12*8
    "ghost": (
        [(64, 35), (72, 35), (144, 12), (96, 12), (54, 12), (72, 12), (96, 12)],
        8 + 8 + 16 + 6 + 6 + 8 + 12,
    ),
    # keeps 6, makes 6, inner 4: twice 2*4, 4*9, twice 3*2
    "shuffle_v1": ([(16, 35), (36, 12), (12, 12)], 4 + 4 + 6),
    # two ways to 6: 6*8, 6*9, 6*6; 8*9, 6*8
    "shuffle_v2": ([(48, 35), (54, 12), (36, 12), (72, 12), (48, 12)], 6 + 6 + 6 + 8 + 6),
}


@pytest.mark.parametrize("kind", WORKED)
def test_strided_block(kind):
    convs, norms = WORKED[kind]
    expected = (
        sum(weights * pixels for weights, pixels in convs),
        sum(weights for weights, _ in convs) + 2 * norms,
    )
    config = block(kind, "static", 8, 12, stride=2, expand=2.0, rank=0.25)
    assert counts(config, (7, 5)) == expected


def test_some_totals_in_plain_numbers():
    assert counts(block("basic", "static", 8, 12, stride=2), (7, 5)) == (27072, 2328)
    assert counts(block("ghost", "static", 8, 12, stride=2, expand=2.0), (7, 5)) == (10304, 726)
    assert counts(block("shuffle_v2", "static", 8, 12, stride=2), (7, 5)) == (4200, 322)


def test_blocks_that_keep_the_shape_need_no_shortcut():
    # basic: twice 8*8*9; shuffle_v2: half of the channels, 4*4, 4*9, 4*4; shuffle_v1, inner 4: 16, 36, 16
    assert counts(block("basic"), (7, 5)) == (2 * 576 * 35, 2 * 576 + 32)
    assert counts(block("shuffle_v2"), (7, 5)) == (68 * 35, 68 + 24)
    assert counts(block("shuffle_v1"), (7, 5)) == (68 * 35, 68 + 2 * (4 + 4 + 8))


@pytest.mark.parametrize(("kernel", "stride", "size"), [(5, 4, 8), (7, 4, 8), (7, 2, 16), (7, 3, 11)])
def test_a_stem_of_large_kernels_downsamples_early(kernel, stride, size):
    config = StemConfig(3, 6, kernel, stride, "relu")
    assert build(config)(torch.zeros(1, 3, 32, 32)).shape == (1, 6, size, size)
    weights = 6 * 3 * kernel * kernel
    assert counts(config, (32, 32)) == (weights * size * size, weights + 12)
