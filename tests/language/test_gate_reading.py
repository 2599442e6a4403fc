"""What gates look at, in the space language."""

import random

from support.refusals import problems_of

from dynnas.language.parser import parse_space
from dynnas.nn.config.network import PolicyConfig, RecurrentConfig
from dynnas.space.moves import largest, sample, smallest


def space(stage: str, more: str = ""):
    return parse_space(
        "input: {channels: 1, resolutions: 8}\nstem: {width: 8}\n"
        f"{more}\nstages:\n- {{width: 8, {stage}}}",
        "f",
    )


def problems(stage: str, more: str = "") -> list[str]:
    return problems_of(lambda: space(stage, more))


def test_gates_look_at_their_own_block_where_nothing_is_said() -> None:
    plain = space("depth: 2, gate: [none, skip]")
    assert not [gene.name for gene in plain.genes if "reads" in gene.name or "policy" in gene.name]
    assert space("depth: 2, gate: [none, skip], gate_reads: block").digest == plain.digest
    assert plain.network_config(smallest(plain)).policy is None


def test_there_is_a_policy_network_where_a_gate_reads_it() -> None:
    found = space("depth: 3, gate: [none, skip], gate_reads: [policy, block]", "policy: {width: 16}")
    assert found.gene("stage1.1.gate_reads").values == ("block", "policy")
    assert found.gene("stage1.1.gate_reads").condition == (("stage1.1.gate", ("skip",)),)
    assert found.size == 3 * 3  # of two blocks: no gate, or one of two
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        config = found.network_config(sample(found, rng), classes=7)
        reading = [block for _, block in config.gated if block.gate_reads == "policy"]
        assert [block.gate["policy_width"] for block in reading] == [16] * len(reading)
        assert config.policy == (PolicyConfig(1, 16, 7) if reading else None)
        assert [slot for slot, _ in config.slots()][:2] == (
            ["policy", "stem"] if reading else ["stem", "stage1.0"]
        )
        assert config.without_gates() == found.network_config(largest(found), classes=7)
        seen.add(len(reading))
    assert seen == {0, 1, 2}


def test_there_is_an_lstm_where_a_gate_reads_it() -> None:
    found = space("depth: 2, gate: [none, halt, channels], gate_reads: [recurrent, block]")
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        config = found.network_config(sample(found, rng))
        reads = any(block.gate_reads == "recurrent" for _, block in config.blocks)
        assert config.recurrent == (RecurrentConfig(1, 10) if reads else None)
        assert config.policy is None
        seen.add(reads)
    assert seen == {True, False}
    assert found.covering_configs(1, 10)["recurrent"] == (RecurrentConfig(1, 10),)


def test_covering_configs_have_every_way_to_look_once_a_gate() -> None:
    found = space("depth: 2, gate: [none, skip, positions, width], gate_reads: [policy, block]")
    covering = found.covering_configs(1, 10)
    gates = [(block.gate.name, block.gate_reads) for block in covering["stage1.1"] if block.gated]
    assert sorted(gates) == [
        ("positions", "block"),
        *((gate, reads) for gate in ("skip", "width") for reads in ("block", "policy")),
    ]
    assert covering["policy"] == (PolicyConfig(1, 32, 10),)
    static = found.restrict({"gate_reads": ["block"]})
    assert "policy" not in static.covering_configs(1, 10)


def test_what_makes_no_sense_is_located() -> None:
    assert problems("depth: 2, gate: positions, gate_reads: policy") == [
        "f:5:53: stage1.gate_reads: never used; "
        "it applies only where gate is skip or halt or tree or routes or width or channels"
    ]
    assert problems("depth: 2, gate: skip", "policy: {width: 8}") == [
        "f:3:9: policy: never used; it applies only where gate_reads is policy"
    ]
    assert problems("depth: 2, gate: skip, gate_reads: policy", "policy: {width: [8, 16]}") == [
        "f:3:9: policy.width: found 2 values; allowed: one, as it is not searched"
    ]
    (found,) = problems("depth: 2, gate: skip, gate_reads: polizy")
    assert "found 'polizy' (did you mean 'policy'?)" in found
