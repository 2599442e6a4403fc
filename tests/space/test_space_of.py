"""Spaces of a class or function whose arguments are chosen, without any file."""

import random
from functools import partial

import numpy as np
import optuna
import pytest
import torch

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.samplers.architecture import suggest
from dynnas.samplers.genome import Genome
from dynnas.space.architecture import Architecture
from dynnas.space.moves import crossover, enumerate_all, largest, mutate, sample, smallest


def network(depth, width=8, op="static", experts=None, norm=True, sizes=(1, 2), rest=0.5):
    return depth, width, op, experts, norm, sizes, rest


def space_of(**more):
    choices = {
        "experts": dn.when(op=["condconv", "dyconv"], choose=[4, 2]),  # before what it depends on
        "depth": range(2, 5),
        "op": ["static", "condconv", "dyconv"],
        "norm": [True, False, None],
        "sizes": [(1, 2), (3, (4, 5))],
        "rest": 0.25,
    }
    return dn.Space.of(network, **(choices | more))


def test_genes_follow_from_the_choices():
    space = space_of()
    genes = {gene.name: (gene.values, gene.condition, gene.ordered) for gene in space.genes}
    assert genes == {
        "op": (("static", "condconv", "dyconv"), (), False),
        "experts": ((2, 4), (("op", ("condconv", "dyconv")),), True),
        "depth": ((2, 3, 4), (), True),
        "norm": ((True, False, None), (), False),
        "sizes": (((1, 2), (3, (4, 5))), (), False),
        "rest": ((0.25,), (), False),
    }
    assert space.size == (1 + 2 * 2) * 3 * 3 * 2 == len(set(enumerate_all(space)))
    assert [gene.name for gene in space.choices] == ["op", "experts", "depth", "norm", "sizes"]


def test_the_function_gets_its_values_and_keeps_its_defaults():
    space = space_of()
    assert space.build(smallest(space)) == (2, 8, "static", None, True, (1, 2), 0.25)
    assert space.build(largest(space)) == (4, 8, "dyconv", 4, None, (3, (4, 5)), 0.25)


def test_values_are_told_apart_by_kind_and_found_by_any_spelling():
    space = space_of()
    values = {"depth": 2.0, "op": "static", "norm": None, "sizes": [3, [4, 5]]}
    found = space.architecture(values)
    assert dict(found) == {"op": "static", "depth": 2, "norm": None, "sizes": (3, (4, 5)), "rest": 0.25}
    assert type(found["depth"]) is int
    assert Architecture.from_json(found.to_json()) == found
    assert space.architecture(values | {"sizes": "[3, [4, 5]]"}) == found
    with pytest.raises(SpaceError, match="norm is 1; allowed: True, False, None"):
        space.architecture(values | {"norm": 1})
    with pytest.raises(SpaceError, match="depth is True; allowed: 2, 3, 4"):
        space.architecture(values | {"depth": True})


def test_moves_and_rows_stay_in_the_space():
    space, rng = space_of(), random.Random(0)
    genome = Genome(space)
    members = set(enumerate_all(space))
    for _ in range(50):
        a, b = sample(space, rng), sample(space, rng)
        assert {a, b, mutate(space, a, rng), crossover(space, a, b, rng)} <= members
        assert genome.decode(genome.encode(a)) == a
    rows = genome.mutate(
        genome.encode_all(sorted(members, key=str)), np.ones(len(members)), 0.5, np.random.default_rng(0)
    )
    assert {genome.decode(row) for row in rows} <= members


def test_optuna_stores_every_value():
    space = space_of()
    study = optuna.create_study(storage="sqlite://", sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(20):
        trial = study.ask()
        drawn.append(suggest(trial, space))
        study.tell(trial, 0.0)
    assert [space.architecture(trial.params) for trial in study.trials] == drawn
    assert {each["sizes"] for each in drawn} == {(1, 2), (3, (4, 5))}


def test_the_digest_names_function_and_choices():
    assert space_of().digest == space_of().digest
    assert space_of().digest != space_of(depth=[2, 3]).digest
    assert (
        dn.Space.of(partial(network, depth=1), width=[1, 2]).digest
        != dn.Space.of(partial(network, depth=2), width=[1, 2]).digest
    )


def test_restricted_spaces_keep_their_function():
    space = space_of().restrict({"op": ["static"], "depth": [2]})
    assert space.size == 6
    assert space.build(largest(space)) == (2, 8, "static", None, None, (3, (4, 5)), 0.25)


def test_arguments_of_any_name_can_be_chosen():
    def odd(choose, of=1):
        return choose, of

    space = dn.Space.of(odd, {"choose": [1, 2], "of": dn.when({"choose": 2}, choose=[5, 6])})
    assert [space.build(each) for each in enumerate_all(space)] == [(1, 1), (2, 5), (2, 6)]


def test_arrays_are_lists_of_choices():
    space = dn.Space.of(network, depth=np.arange(1, 4), width=torch.tensor([8, 16]))
    plain = dn.Space.of(network, depth=[1, 2, 3], width=[8, 16])
    assert space.genes == plain.genes
    assert space.digest == plain.digest


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"deph": [1]}, r"network has no argument 'deph' \(did you mean 'depth'\?\); it has depth, width, "),
        ({"width": [1]}, "'depth' has no default, so each network needs a value"),
        ({"depth": dn.when(op="x", choose=[1])}, "'depth' has no default"),
        ({"depth": []}, "network: depth: the list of choices is empty"),
        ({"depth": [1, 1]}, "network: depth: 1, 1 are not all different"),
        ({"depth": [1, True]}, "1, True are not all different"),
        ({"depth": [{1}]}, r"network: depth: \{1\} is no finite number, text"),
        ({"depth": [np.int64]}, "int64'> is no .*, or sequence of these; give a text for each, and let the"),
        ({"depth": float("nan")}, "nan is no finite number"),
        ({"depth": 1, "width": dn.when(opp="a", choose=[1])}, "width depends on 'opp', which is not chosen"),
        ({"depth": 1, "width": dn.when(depth=2, choose=[1])}, "which is no choice of it; allowed: 1"),
        (
            {"depth": 1, "width": dn.when(op="a", choose=[1]), "op": dn.when(width=1, choose=["a"])},
            "the conditions of width and op depend on each other",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_named(choices, message):
    with pytest.raises(SpaceError, match=message):
        dn.Space.of(network, **choices)


def test_static_values_of_no_argument_are_named():
    def one(op="static"):
        return op

    one.static_values = {"opp": "static"}
    with pytest.raises(SpaceError, match=r"one.static_values has 'opp' \(did you mean 'op'\?\), which"):
        dn.Space.of(one, op=["static", "condconv"])


def test_a_network_in_place_of_its_class_is_named():
    with pytest.raises(
        SpaceError, match=r"found a Linear that is made already; .* Space\.of\(Linear, \.\.\.\)"
    ):
        dn.Space.of(torch.nn.Linear(2, 2), width=[8, 16])


def test_when_needs_a_condition():
    with pytest.raises(SpaceError, match="there is no condition"):
        dn.when(choose=[1])


def test_a_network_that_cannot_be_built_is_named_with_its_values():
    def failing(width):
        raise ValueError("no such width")

    space = dn.Space.of(failing, width=[3])
    with pytest.raises(SpaceError, match=r"failing\(width=3\) failed: ValueError: no such width"):
        space.build(smallest(space))
