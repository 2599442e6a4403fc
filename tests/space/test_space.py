"""Space: building, checking architectures, restricting, digest."""

import pickle
import random

import pytest

from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.space.gene import Gene
from dynnas.space.moves import enumerate_all, largest, sample
from dynnas.space.space import Space

TEXT = """
input: {resolutions: 8}
stem: {width: 8}
stages:
  - {width: [8, 16], depth: [1, 2], op: [static, condconv], experts: [2, 4]}
  - {width: 16}
exits: {positions: [stage1]}
"""


@pytest.fixture
def space() -> Space:
    return parse_space(TEXT)


def test_inactive_genes_are_dropped_and_single_valued_ones_filled_in(space: Space) -> None:
    values = {"stage1.width": 16, "stage1.depth": 1, "stage1.0.op": "static", "exits.at": "none"}
    spelled = {**values, "stage1.0.experts": 4, "stage1.1.op": "condconv", "exits.stage1.threshold": 0.8}
    architecture = space.architecture(spelled)
    assert architecture == space.architecture(values)
    assert "stage1.0.experts" not in architecture
    assert architecture["stem.width"] == 8
    assert list(architecture)[:3] == ["resolution", "stem.width", "stem.kernel"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage1.width": 12}, r"stage1.width is 12; allowed: 8, 16"),
        ({"stage1.widht": 8}, r"no gene 'stage1.widht' \(did you mean 'stage1.width'\?\)"),
        ({"stage1.0.op": "condconv"}, r"stage1.0.experts is not given; allowed: 2, 4"),
        ({"stem.width": 16}, r"stem.width is 16; allowed: 8"),
    ],
)
def test_illegal_architectures_are_refused(space: Space, change: dict[str, object], message: str) -> None:
    values = {"stage1.width": 8, "stage1.depth": 1, "stage1.0.op": "static", "exits.at": "none"}
    with pytest.raises(SpaceError, match=message):
        space.architecture({**values, **change})


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ((Gene("a", ()),), "gene 'a' has no values"),
        ((Gene("a", (1,)), Gene("a", (2,))), "gene 'a' .* given twice"),
        (
            (Gene("a", (1,), (("b", (1,)),)), Gene("b", (1,))),
            "'a' depends on 'b', which must stand before it",
        ),
    ],
)
def test_illegal_spaces_cannot_be_built(genes: tuple[Gene, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Space("illegal", genes)


def test_activity_follows_the_parents(space: Space) -> None:
    assert space.is_active("stage1.0.experts", {"stage1.0.op": "condconv"})
    assert not space.is_active("stage1.0.experts", {"stage1.0.op": "static"})
    assert not space.is_active(space.gene("stage1.1.experts"), {"stage1.depth": 1})


def test_conditions_that_always_hold_are_left_out(space: Space) -> None:
    assert space.gene("stage1.0.op").condition == ()
    assert space.gene("stage1.1.op").condition == (("stage1.depth", (2,)),)
    assert space.gene("stage1.1.experts").condition == (
        ("stage1.depth", (2,)),
        ("stage1.1.op", ("condconv",)),
    )


def test_restricting_a_knob_reaches_every_layer(space: Space) -> None:
    static = space.restrict({"op": ["static"], "exits.at": ["none"]})
    assert not [gene.name for gene in static.genes if "experts" in gene.name or "threshold" in gene.name]
    assert static.size == 2 * 2
    assert all(space.architecture(architecture) == architecture for architecture in enumerate_all(static))


def test_restricting_prefers_the_gene_of_that_very_name() -> None:
    space = Space("plain", (Gene("op", ("a", "b")), Gene("cell.op", ("a", "b"))))
    assert space.restrict({"op": ["a"]}).size == 2


def test_restricting_to_an_architecture_leaves_it_alone(everything: Space) -> None:
    architecture = sample(everything, random.Random(3))
    one = everything.restrict({name: (value,) for name, value in architecture.items()})
    assert list(enumerate_all(one)) == [architecture]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"op": ["dynet"]}, "stage1.0.op cannot be restricted to dynet; it has static, condconv"),
        ({"opp": ["static"]}, "no gene 'opp'"),
    ],
)
def test_impossible_restrictions_are_refused(
    space: Space, values: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        space.restrict(values)


def test_the_digest_names_the_choices_and_not_the_study(space: Space) -> None:
    assert parse_space(TEXT + "train: {epochs: 3}").digest == space.digest
    assert parse_space(TEXT.replace("[2, 4]", "[2, 8]")).digest != space.digest
    assert parse_space(TEXT.replace("resolutions: 8", "resolutions: 8, channels: 1")).digest != space.digest


def test_a_space_is_a_value(everything: Space) -> None:
    copy = pickle.loads(pickle.dumps(everything))
    assert copy == everything
    assert hash(copy) == hash(everything)
    assert copy.digest == everything.digest


def test_a_plain_space_has_no_network(choices: Space) -> None:
    with pytest.raises(SpaceError, match="plain `choices` describes no network"):
        choices.network_config(largest(choices))
    with pytest.raises(SpaceError, match="plain `choices` describes no network"):
        choices.covering_configs(1, 10)
