"""Samplers on conditional spaces: legal, new, reproducible, and better than chance."""

import statistics

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from support.tables import MACRO_FILE, MacroTable, Table, conditional_space, grid_space

import dynnas
from dynnas.errors import StudyError
from dynnas.pareto.front import Front, ScoredArchitecture, reference_point
from dynnas.pareto.objectives import Goal, objectives_of
from dynnas.progress import Progress
from dynnas.samplers.architecture import distribution_of
from dynnas.samplers.make import make_sampler
from dynnas.search.loop import SearchLoop
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import open_trials
from dynnas.settings.registries import SAMPLERS
from dynnas.space.gene import Gene
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space

# Optuna's Gaussian process takes seconds a trial.
QUICK = tuple(name for name in SAMPLERS if name != "gp")
ENDLESS = tuple(name for name in QUICK if not name.startswith("autoslim"))  # the others have a path that ends

GOAL = Goal.of(("accuracy", "latency_ms"))


def run(space: Space, sampler: str, trials: int, seed: int = 0, url: str | None = None) -> optuna.Study:
    chosen = make_sampler(sampler, space, population=8, seed=seed)
    study = open_trials(open_storage(url), "test", space, GOAL.objectives, chosen)
    SearchLoop(study, space, Table(), GOAL).run(trials, Progress())
    return study


def keys(study: optuna.Study) -> list[str]:
    return [trial.user_attrs["key"] for trial in study.trials]


def test_parameters_have_real_values() -> None:
    assert distribution_of(Gene("w", (16, 24, 32), ordered=True)) == IntDistribution(16, 32, step=8)
    assert distribution_of(Gene("w", (16, 24, 48), ordered=True)) == CategoricalDistribution((16, 24, 48))
    assert distribution_of(Gene("t", (0.7, 0.9), ordered=True)) == CategoricalDistribution((0.7, 0.9))
    assert distribution_of(Gene("c", (0, 1, 2))) == CategoricalDistribution((0, 1, 2))


@pytest.mark.parametrize("sampler", ENDLESS)
def test_only_active_choices_become_parameters_and_nothing_repeats(sampler: str) -> None:
    space = conditional_space()
    study = run(space, sampler, 25)
    assert len(set(keys(study))) == len(study.trials) == 25
    choices = {gene.name for gene in space.choices}
    for trial in study.trials:
        architecture = space.architecture(trial.params)
        assert trial.user_attrs["key"] == architecture.key
        assert trial.user_attrs["architecture"] == dict(architecture)
        assert set(trial.params) == choices & set(architecture)


@pytest.mark.parametrize("sampler", ENDLESS)
def test_small_space_is_exhausted_without_repeat(sampler: str) -> None:
    space = grid_space(3, 2)
    study = run(space, sampler, 50)
    assert len(set(keys(study))) == len(study.trials) == space.size == 8


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_search_begins_with_the_ends_of_the_space(sampler: str) -> None:
    space = conditional_space()
    assert keys(run(space, sampler, 5))[:2] == [smallest(space).key, largest(space).key]


@pytest.mark.parametrize("sampler", ENDLESS)
def test_seed_decides(sampler: str) -> None:
    space = conditional_space()
    first, again, other = (keys(run(space, sampler, 14, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.sampled(1)
@pytest.mark.parametrize("sampler", ["guided", "autoslim"])
def test_extended_search_equals_a_long_one(sampler: str, tmp_path: object) -> None:
    space = conditional_space()
    url = f"sqlite:///{tmp_path}/study.db"
    for trials in (7, 21, 30):
        resumed = run(space, sampler, trials, url=url)
    assert keys(resumed) == keys(run(space, sampler, 30))


def test_optunas_gaussian_process_proposes_nothing_twice() -> None:
    space = grid_space(2, 3)
    assert len(set(keys(run(space, "gp", 9)))) == space.size == 9


def test_unknown_sampler() -> None:
    with pytest.raises(StudyError, match=r"unknown sampler 'nsga4' .*; known: guided, evolution, autoslim"):
        make_sampler("nsga4", grid_space(1), population=4, seed=0)


@pytest.mark.skipif(not MACRO_FILE.exists(), reason="NAS-Bench-Macro is not there")
@pytest.mark.parametrize("sampler", ["nsga2", pytest.param("tpe", marks=pytest.mark.slow)])
def test_beats_random_on_a_benchmark(sampler: str) -> None:
    table = MacroTable()
    objectives = objectives_of(("accuracy", "macs"))
    everything = [ScoredArchitecture(architecture, metrics) for architecture, metrics in table.all()]
    best = Front.of(everything, objectives)
    reference = reference_point([best])
    whole = best.hypervolume(reference)

    def shares(name: str) -> list[float]:
        fronts = [
            dynnas.search(
                table.space, table, sampler=name, trials=100, seed=seed, objectives=("accuracy", "macs")
            )
            for seed in range(3)
        ]
        return [front.hypervolume(reference) / whole for front in fronts]

    assert statistics.mean(shares(sampler)) > statistics.mean(shares("random"))
