"""Gates in the space language."""

import random

from support.refusals import problems_of

from dynnas.language.parser import parse_space
from dynnas.space.moves import largest, sample, smallest


def space(stage: str):
    return parse_space(
        f"input: {{resolutions: 8}}\nstem: {{width: 8}}\nstages:\n- {{width: 8, {stage}}}", "f"
    )


def problems(stage: str) -> list[str]:
    return problems_of(lambda: space(stage))


def test_a_space_without_gates_does_not_speak_of_them() -> None:
    plain = space("depth: 2")
    assert not [gene.name for gene in plain.genes if "gate" in gene.name]
    assert space("depth: 2, gate: none").digest == plain.digest
    assert not plain.network_config(largest(plain)).branches


def test_the_target_is_a_choice_where_there_is_a_gate() -> None:
    found = space("depth: 2, gate: [none, skip, width], gate_target: [0.75, 0.5]")
    assert found.gene("stage1.1.gate").values == ("skip", "width", "none")
    assert found.gene("stage1.1.gate_target").values == (0.5, 0.75)
    assert found.gene("stage1.1.gate_target").condition == (("stage1.1.gate", ("skip", "width")),)
    # The first block is never skipped.
    assert found.gene("stage1.0.gate").values == ("width", "none")
    assert found.size == 3 * 5


def test_the_largest_network_has_no_gates_and_the_smallest_all() -> None:
    found = space("depth: 2, gate: [none, skip, width]")
    blocks = [found.network_config(pick(found)).gated for pick in (largest, smallest)]
    assert not blocks[0]
    assert [(slot, block.gate.name, block.gate.get("target")) for slot, block in blocks[1]] == [
        ("stage1.0", "width", 0.5),
        ("stage1.1", "skip", 0.5),
    ]


def test_a_stage_may_say_skip_once_for_all_of_its_blocks() -> None:
    found = space("depth: [1, 2, 3], gate: skip")
    assert "stage1.0.gate" not in [gene.name for gene in found.genes]
    assert found.gene("stage1.2.gate").values == ("skip",)
    rng = random.Random(0)
    for _ in range(20):
        config = found.network_config(sample(found, rng))
        assert [block.gate.name for _, block in config.blocks] == ["none", "skip", "skip"][
            : len(config.blocks)
        ]
        assert config.branches == (len(config.blocks) > 1)
        assert not config.without_gates().gated


def test_what_makes_no_sense_is_located() -> None:
    assert problems("depth: 2, block: [mbconv, dwsep], gate: [none, width]") == [
        "f:4:54: stage1.gate: width makes no sense in block dwsep (the block has no channels of its own "
        "between its convolutions); allowed there: skip, halt, positions, none"
    ]
    assert problems("depth: 2, op: [static, dyconv], gate: positions") == [
        "f:4:52: stage1.gate: positions makes no sense with op dyconv (it looks at the whole image, and a "
        "tile is to be computed from what lies around it); "
        "allowed there: skip, halt, tree, routes, width, channels, moe, none"
    ]
    first = (
        "stage1.gate: found skip; a stage's first block is never skipped, as it may change the shape; "
        "allowed: skip where the depth is 2 or more, for the blocks after the first"
    )
    assert problems("depth: 1, gate: [none, skip]") == [f"f:4:30: {first}"]
    assert problems("depth: 2, layers: {0: {gate: skip}}") == [f"f:4:43: {first}"]
    assert problems("depth: 2, gate_target: 0.5") == [
        "f:4:37: stage1.gate_target: never used; it applies only where gate is not none"
    ]
    assert "f:4:30: stage1.gate: found positions; a stage" in problems("depth: 1, gate: positions")[0]
    (found,) = problems("depth: 2, gate: skipp")
    assert found.startswith("f:4:30: stage1.gate: found 'skipp' (did you mean 'skip'?)")


def test_a_gate_may_be_that_of_one_layer() -> None:
    found = space("depth: 3, layers: {1: {gate: [none, skip]}}")
    assert [gene.name for gene in found.choices] == ["stage1.1.gate"]


def test_covering_configs_have_every_gate_once_a_block() -> None:
    found = space(
        "depth: 2, block: [mbconv, basic], op: [static, dynet], gate: [none, skip, channels], "
        "gate_target: [0.5, 0.9]"
    ).covering_configs(1, 10)
    gates = [(block.block.name, block.gate.name) for block in found["stage1.1"] if block.gated]
    assert sorted(gates) == [(kind, gate) for kind in ("basic", "mbconv") for gate in ("channels", "skip")]
    assert {block.gate.get("target") for block in found["stage1.1"] if block.gated} == {0.9}
    plain = [(block.block.name, block.op.name) for block in found["stage1.1"] if not block.gated]
    assert sorted(set(plain)) == [(kind, op) for kind in ("basic", "mbconv") for op in ("dynet", "static")]
    assert "skip" not in [block.gate.name for block in found["stage1.0"]]
