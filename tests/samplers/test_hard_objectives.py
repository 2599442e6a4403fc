"""Objectives that samplers stumble over: constant, tied, huge, infinite, failing, or without structure."""

import itertools
import random
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from dynnas.samplers.architecture import suggest
from dynnas.samplers.history import INFINITE, nondominated
from dynnas.samplers.make import make_sampler
from dynnas.samplers.model.acquisition import scaled
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.moves import sample
from dynnas.space.space import Space

Losses = tuple[float, ...]

TEXTS = Space("texts", tuple(Gene(f"g{at}", ("a", "b", "c")) for at in range(4)))
NUMBERS = Space(
    "numbers",
    (
        Gene("depth", (1, 2), ordered=True),
        Gene("width", (8, 16, 24, 32, 40), ordered=True),
        Gene("op", ("plain", "gated")),
        Gene("inner", (1, 2, 3, 4), (("depth", (2,)),), ordered=True),
    ),
)


def places(architecture: Architecture, space: Space) -> np.ndarray:
    """Return the place of each gene's value from 0 to 1; -1 for inactive genes."""
    return np.array(
        [
            gene.values.index(architecture[gene.name]) / (len(gene.values) - 1)
            if gene.name in architecture
            else -1.0
            for gene in space.genes
        ]
    )


def seen(space: Space, losses: Callable[[Architecture], Losses | None], trials: int, seed: int = 0) -> list:
    """Search, and return the architectures in the order in which they were proposed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = make_sampler("guided", space, population=8, seed=seed)
    objectives = next(len(found) for one in some_of(space) if (found := losses(one)) is not None)
    study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    proposed = []
    for _ in range(trials):
        trial = study.ask()
        proposed.append(suggest(trial, space))
        found = losses(proposed[-1])
        if found is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, found)
    return proposed


def some_of(space: Space) -> Iterator[Architecture]:
    """Return random architectures of a space."""
    drawn = random.Random(0)
    return iter([sample(space, drawn) for _ in range(20)])


def space_of(space: Space) -> list[Architecture]:
    """Return all architectures of a space, by brute force."""
    found = {}
    for values in itertools.product(*(gene.values for gene in space.genes)):
        given = dict(zip((gene.name for gene in space.genes), values, strict=True))
        active = {
            gene.name: given[gene.name]
            for gene in space.genes
            if all(given[name] in allowed for name, allowed in gene.condition)
        }
        architecture = space.architecture(active)
        found[architecture.key] = architecture
    return list(found.values())


def noise(architecture: Architecture) -> Losses:
    """Two numbers that no gene explains."""
    number = int(architecture.key[:12], 16)
    return (number % 9973) / 9973, (number % 8191) / 8191


@pytest.mark.parametrize("space", [pytest.param(TEXTS, marks=pytest.mark.slow), NUMBERS])
def test_after_as_many_trials_as_cells_the_whole_front_is_found(space: Space) -> None:
    """Where nothing can be learned every cell must be reached, also those that fail or tie."""
    everything = space_of(space)
    assert len(everything) == space.size

    def losses(architecture: Architecture) -> Losses | None:
        first, second = noise(architecture)
        return None if first > 0.7 else (round(first, 1), second)

    proposed = seen(space, losses, len(everything))
    assert {one.key for one in proposed} == {one.key for one in everything}


@pytest.mark.slow
def test_a_front_without_structure_is_found_in_a_part_of_the_space() -> None:
    """The cells of the front are neighbours of none: three quarters of the trials find more than chance."""

    def front_of(architectures: list[Architecture]) -> set[str]:
        points = np.array([noise(one) for one in architectures])
        return {one.key for one, best in zip(architectures, nondominated(points), strict=True) if best}

    whole = front_of(space_of(TEXTS))
    proposed = seen(TEXTS, noise, 61)
    assert len(whole & {one.key for one in proposed}) >= len(whole) / 2


HARD: dict[str, Callable[[np.ndarray], Losses]] = {
    "constant": lambda at: (1.0, 2.0),
    "constant cost": lambda at: (float(at @ at), 3.0),
    "tied": lambda at: (float(at.sum() > 1.5), float(at[0] > 0.5)),
    "huge": lambda at: (1e200 * float(at.sum()), -1e290 * float(at[0])),
    "tiny": lambda at: (1e-200 * float(at.sum()), 1e-308 * float(at[0])),
    "far from zero": lambda at: (1e15 + float(at.sum()), -1e15 - float(at[0])),
    "infinite": lambda at: (float("inf") if at[1] > 0.6 else float(at.sum()), 1.0 - float(at[0])),
    "all infinite": lambda at: (float("inf"), 1.0 - float(at[0])),
    "one": lambda at: (float(((at - 0.5) ** 2).sum()),),
    "three": lambda at: tuple(float(((at - end) ** 2).sum()) for end in (0.0, 0.5, 1.0)),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", HARD)
def test_hard_objectives_are_searched_alike_twice_and_without_a_warning(name: str) -> None:
    space = NUMBERS if name in ("huge", "infinite", "one") else TEXTS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proposed = seen(space, lambda one: HARD[name](places(one, space)), 20)
    assert len({one.key for one in proposed}) == 20
    if name in ("huge", "three"):
        assert proposed == seen(space, lambda one: HARD[name](places(one, space)), 20)


def test_of_a_space_of_one_there_is_one_proposal() -> None:
    space = Space("one", (Gene("only", ("a",)),))
    assert seen(space, lambda one: (1.0, 2.0), 1) == [space.architecture({})]


def test_a_space_of_many_more_than_can_be_counted_by_hand_is_searched() -> None:
    space = Space("large", tuple(Gene(f"g{at}", tuple(range(10)), ordered=True) for at in range(24)))
    assert space.size == 10**24
    proposed = seen(space, lambda one: (places(one, space).sum(), places(one, space)[0] - 1), 14)
    assert len({one.key for one in proposed}) == 14


def test_losses_are_scaled_by_powers_of_two_and_infinite_ones_are_the_worst() -> None:
    losses = np.array([[3e200, 1.0], [INFINITE, 1.0], [6e200, -INFINITE], [4e200, 0.25]])
    units, found = scaled(losses)
    assert np.log2(units).tolist() == [np.floor(np.log2(6e200)), 0.0]
    assert (found[[0, 2, 3], 0] * units[0]).tolist() == [3e200, 6e200, 4e200]
    assert found[1, 0] == pytest.approx(2 * found[2, 0] - found[0, 0])
    assert found[:, 1].tolist() == [1.0, 1.0, -0.5, 0.25]
