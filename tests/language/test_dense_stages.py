"""Stages of multi-scale layers: what a space file may say of them, and what channels come of it."""

import pytest

from dynnas.language.parser import parse_space
from dynnas.language.problems import SpaceFileError
from dynnas.space.moves import largest, smallest

BEGIN = "input: {resolutions: 8}\nstem: {width: 4}\n"


def space(*stages, begin=BEGIN, more=""):
    return parse_space(f"{begin}stages:\n" + "".join(f"- {{{stage}}}\n" for stage in stages) + more)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["block: [msd, basic], width: 4"], "stage1.block: msd beside basic; a stage is of msd alone"),
        (["block: msd, width: 4", "width: 8"], "stage2: other blocks after a stage of msd"),
        (["block: msd, width: 4, stride: 2"], "stage1.stride: found 2; allowed: 1 in a stage of msd"),
        (["block: msd, width: 4, scales: [2, 3]"], "stage1.scales: found 2 values; allowed: one"),
        (
            ["block: msd, width: 4, scales: 5"],
            "stage1.scales: found 5; allowed: at most as many that maps of 8 pixels",
        ),
        (
            ["block: msd, width: 4, finest: 3"],
            "stage1.finest: found 3; allowed: below the number of scales, 3",
        ),
        (
            ["block: msd, width: 4", "block: msd, width: 4, scales: 2"],
            "stage2.scales: found 2; allowed: 3, as in the stage before",
        ),
        (["block: msd, width: [3, 4], links: both"], "stage1.width: found 3; allowed: even numbers"),
        (
            ["block: msd, width: 4, op: condconv"],
            "condconv makes no sense in block msd .its kernels are static",
        ),
        (["width: 4, keep: 0.5"], "stage1.keep: never used; it applies only where block is msd"),
        (["block: msd, width: 4, links: up"], "stage1.links: found 'up'"),
    ],
)
def test_one_clear_message(stages, message):
    with pytest.raises(SpaceFileError, match=message) as error:
        space(*stages)
    assert len(error.value.args[0].splitlines()) == 1


def test_every_resolution_and_stride_must_leave_whole_scales():
    begin = "input: {resolutions: [16, 20]}\nstem: {width: 4, stride: 2}\n"
    with pytest.raises(SpaceFileError, match="maps of 10 pixels can be halved 2 times"):
        space("block: msd, width: 4", begin=begin)
    space("block: msd, width: 4, scales: 2", begin=begin)
    with pytest.raises(SpaceFileError, match="maps of 2 pixels can be halved 2 times"):
        space("width: 8, stride: 4", "block: msd, width: 4")


def test_channels_of_each_scale():
    net = space(
        "block: msd, width: 6, depth: 2",
        "block: msd, width: 4, depth: 2, finest: 1, keep: 0.5",
        begin="input: {resolutions: 8}\nstem: {width: 16}\n",
    )
    blocks = [block.scales for _, block in net.network_config(largest(net)).blocks]
    assert [[scales.after(scale) for scale in range(3)] for scales in blocks] == [
        [22, 44, 88],
        [28, 56, 112],
        [28, 32, 64],  # half of 28 + 4, times 2 and 4; the finest is as it was
        [28, 40, 80],
    ]
    assert [scales.makes for scales in blocks] == [True, False, False, False]
    assert net.network_config(largest(net)).head.in_channels == 80


def test_exits_read_the_coarsest_scale():
    net = space(
        "block: basic, width: 6, stride: 2",
        "block: msd, width: 2, depth: 2, scales: 2",
        more="exits: {positions: [stage1, stage2.0], count: 2}\n",
    )
    config = net.network_config(largest(net))
    assert [place.config.in_channels for place in config.exits] == [6, 12 + 4]
    assert config.head.in_channels == 12 + 4 + 4


def test_depth_and_width_are_searched_and_the_rest_is_not():
    net = space("block: msd, depth: [1, 2], width: [2, 4], kernel: [3, 5]")
    assert net.size == 2 * (2 + 4)
    assert smallest(net)["stage1.scales"] == largest(net)["stage1.scales"] == 3
    assert [gene.name for gene in net.genes if "stage1" in gene.name and len(gene.values) > 1] == [
        "stage1.depth",
        "stage1.width",
        "stage1.0.kernel",
        "stage1.1.kernel",
    ]
