"""Resolutions that are chosen for each image, in the space language."""

import random

from support.refusals import problems_of

from dynnas.language.parser import parse_space
from dynnas.nn.config.network import RESOLUTION_SLOT, ResolutionConfig
from dynnas.space.moves import enumerate_all, largest, sample, smallest

REST = """
stem: {width: [8, 16]}
stages:
- {width: 8, depth: 2%s}
"""


def space(given: str, stage: str = "", more: str = ""):
    return parse_space(f"input: {{{given}}}{REST % stage}{more}", "f")


def problems(given: str, stage: str = "", more: str = "") -> list[str]:
    return problems_of(lambda: space(given, stage, more))


def test_a_space_of_fixed_resolutions_does_not_speak_of_a_choice() -> None:
    plain = space("resolutions: [6, 8]")
    assert [gene.name for gene in plain.genes][:2] == ["resolution", "stem.width"]
    assert space("resolutions: [6, 8], choose: fixed").digest == plain.digest
    assert not plain.network_config(largest(plain)).branches


def test_the_choice_stands_before_what_follows_from_it() -> None:
    found = space("resolutions: [8, 6], choose: [fixed, per_image], target: [0.75, 0.5]")
    assert [(gene.name, gene.values, gene.condition) for gene in found.genes[:3]] == [
        ("resolution.choose", ("6+8", "fixed"), ()),
        ("resolution.target", (0.5, 0.75), (("resolution.choose", ("6+8",)),)),
        ("resolution", (6, 8), (("resolution.choose", ("fixed",)),)),
    ]
    assert found.size == 2 * (2 + 2) == len(set(enumerate_all(found)))
    config = found.network_config(smallest(found), channels=1)
    assert config.choice == ResolutionConfig(1, (6, 8), 0.5)
    assert (config.resolution, config.branches, config.without_gates().choice) == (8, True, None)
    assert dict(config.slots())[RESOLUTION_SLOT] == config.choice
    assert found.network_config(largest(found)) == found.network_config(largest(found)).at(8)
    assert found.covering_configs(1, 10)[RESOLUTION_SLOT][0].sizes == (6, 8)


def test_nothing_else_is_decided_where_the_resolution_is() -> None:
    found = space(
        "resolutions: [6, 8], choose: [fixed, per_image]",
        ", gate: [none, skip]",
        "exits: {positions: stage1.0, count: 1}",
    )
    assert found.size == 2 * (1 + 2 * 2)
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        architecture = sample(found, rng)
        config = found.network_config(architecture)
        seen.add(config.choice is None)
        assert bool(config.exits) == (config.choice is None)
        if config.choice is not None:
            assert not config.gated
            assert "resolution" not in architecture
    assert seen == {True, False}
    # Values of what does not apply are dropped: both spell one network.
    spelled = {**architecture, "resolution.choose": "6+8", "resolution.target": 0.5}
    other = {**spelled, "resolution": 6, "stage1.1.gate": "skip", "exits.at": "stage1.0"}
    assert found.architecture(other) == found.architecture({**spelled, "resolution": 8})


def test_it_may_be_chosen_always() -> None:
    found = space("resolutions: [6, 8], choose: per_image")
    assert "resolution" not in [gene.name for gene in found.genes]
    assert found.size == 2
    assert found.network_config(largest(found)).choice is not None


def test_what_makes_no_sense_is_located() -> None:
    one = "input.choose: found per_image, and 1 in input.resolutions; allowed: with 2 to 8 of them"
    assert problems("resolutions: 8, choose: per_image") == [f"f:1:33: {one}"]
    assert "and 9 in input.resolutions" in problems(f"resolutions: {[*range(4, 13)]}, choose: per_image")[0]
    assert problems("resolutions: [6, 8], target: 0.5") == [
        "f:1:38: input.target: never used; it applies only where choose is per_image"
    ]
    assert problems("resolutions: [6, 8], choose: per_imag") == [
        "f:1:38: input.choose: found 'per_imag' (did you mean 'per_image'?); allowed: per_image, glance, "
        "fixed"
    ]
    never = (
        "never used; it applies only where input.choose is fixed: a network that sees each image at "
        "resolutions of its own decides nothing else"
    )
    assert problems(
        "resolutions: [6, 8], choose: per_image",
        ", layers: {1: {gate: [none, skip]}}",
        "exits: {positions: stage1.0}",
    ) == [f"f:4:43: stage1.gate: {never}", f"f:5:8: exits: {never}"]
    assert space("resolutions: [6, 8], choose: per_image", ", gate: none").size == 2
