"""Blocks in the space language: the rank, widths that change, and what does not go together."""

import random

import pytest
from support.refusals import problems_in

from dynnas.language.parser import parse_space
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.facts import Requirement
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import BLOCKS
from dynnas.space.moves import enumerate_all, sample
from dynnas.space.space import Space


def network(stages: str, stem: str = "width: 8") -> str:
    return f"input: {{resolutions: 8}}\nstem: {{{stem}}}\nstages:\n{stages}"


def first_blocks(space: Space) -> list[BlockConfig]:
    return [space.network_config(architecture).blocks[0][1] for architecture in enumerate_all(space)]


def test_the_rank_is_a_choice_of_lowrank_blocks_alone() -> None:
    space = parse_space(network("- {width: 16, block: [conv, lowrank], rank: [0.5, 0.25]}"))
    assert space.gene("stage1.0.rank").condition == (("stage1.0.block", ("lowrank",)),)
    assert space.size == 3
    found = [(block.block.name, block.block.get("rank")) for block in first_blocks(space)]
    assert found == [("lowrank", 0.25), ("lowrank", 0.5), ("conv", None)]
    covering = space.covering_configs(1, 10)["stage1.0"]
    kinds = [block.block for block in covering if isinstance(block, BlockConfig)]
    assert kinds == [Choice.of("lowrank", rank=0.5), Choice("conv")]


def test_a_rank_that_is_never_used_is_a_slip() -> None:
    assert problems_in(network("- {width: 16, block: conv, rank: 0.5}")) == [
        "f:4:34: stage1.rank: never used; it applies only where block is lowrank"
    ]


@pytest.mark.parametrize("block", BLOCKS)
def test_covering_configs_meet_every_way_to_change_the_shape(block: str) -> None:
    """Whether a block can keep its shape, and whether it can change it, must show in its covering configs."""
    for stem, width, stride in [
        ([8, 16], [8, 16], [1]),
        ([8, 16], [16], [1, 2]),
        ([16], [8, 16], [1]),
        ([8], [16, 24], [2]),
        ([8], [8], [1]),
    ]:
        stage = f"- {{width: {width}, stride: {stride}, block: {block}}}"
        space = parse_space(network(stage, f"width: {stem}"))
        covering = [b for b in space.covering_configs(1, 10)["stage1.0"] if isinstance(b, BlockConfig)]
        found, covered = (
            {(b.stride == 1 and b.in_channels == b.out_channels) for b in blocks}
            for blocks in (first_blocks(space), covering)
        )
        if BLOCKS[block].reshapes:
            assert found == covered, (stem, width, stride)
        else:
            assert len(covering) == 1


def test_an_op_that_makes_no_sense_in_a_block_is_located(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = (*KERNELS["dynet"].requires, Requirement(("block",), "a hearth", "for a test"))
    monkeypatch.setattr(KERNELS["dynet"], "requires", needs)
    monkeypatch.setattr(BLOCKS["conv"], "provides", BLOCKS["conv"].provides | {"a hearth"})
    (found,) = problems_in(network("- {width: 16, block: [conv, fire], op: [static, dynet]}"))
    message, _, allowed = found.partition("; allowed there: ")
    assert message == "f:4:40: stage1.op: dynet makes no sense in block fire (for a test)"
    assert set(allowed.split(", ")) == {*KERNELS} - {"dynet", "dfn", "involution"}
    # Each where it is written: the op of the stage, and the block of a layer that has it from there.
    found = problems_in(
        network("- {width: 16, depth: 2, block: conv, op: dynet, layers: {1: {block: fire}}}")
    )
    assert [text.partition(" makes")[0] for text in found] == ["f:4:42: stage1.op: dynet"]
    found = problems_in(
        network("- {width: 16, depth: 2, block: fire, layers: {1: {op: dynet}, 0: {op: dynet}}}")
    )
    assert [text.partition(" makes")[0] for text in found] == [
        "f:4:55: stage1.1.op: dynet",
        "f:4:71: stage1.0.op: dynet",
    ]
    parse_space(network("- {width: 16, block: fire, op: [static, condconv]}"))


def test_widths_too_small_to_cut_are_located() -> None:
    assert problems_in(network("- {width: [2, 16], block: [conv, shuffle_v1]}")) == [
        "f:4:11: stage1.width: 2 channels enter or leave block shuffle_v1; allowed: at least 4"
    ]
    assert problems_in(network("- {width: 16, block: ghost}", "width: 1")) == [
        "f:4:11: stage1.width: 1 channels enter or leave block ghost; allowed: at least 2"
    ]
    for block in BLOCKS:
        least = BLOCKS[block].least_channels
        parse_space(network(f"- {{width: {least}, block: {block}}}", f"width: {least}"))


def test_samples_of_a_space_of_all_blocks_have_a_rank_where_they_need_one() -> None:
    space = parse_space(network(f"- {{width: [8, 16], depth: 3, block: [{', '.join(BLOCKS)}]}}"))
    rng = random.Random(0)
    for _ in range(50):
        for _, block in space.network_config(sample(space, rng)).blocks:
            assert (block.block.get("rank") is None) == (block.block.name != "lowrank")
