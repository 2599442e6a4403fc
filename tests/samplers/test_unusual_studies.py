"""Our samplers in studies as users of Optuna write them: threads, queues, failures, spaces that change."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from support.tables import Table, grid_space

import dynnas
from dynnas.errors import ExhaustedError, StudyError
from dynnas.samplers.architecture import suggest
from dynnas.samplers.lock import OwnLock
from dynnas.samplers.make import make_sampler
from dynnas.samplers.plain import PlainSampler

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

OWN = ("guided", "evolution")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def of_plain(name: str) -> BaseSampler:
    return PlainSampler(name, seed=0)


def test_one_objective_is_maximised() -> None:
    study = optuna.create_study(direction="maximize", sampler=of_plain("guided"))

    def objective(trial: optuna.Trial) -> float:
        numbers = [trial.suggest_int(f"n{at}", 0, 8) for at in range(4)]
        return -float(sum((number - 2 * at) ** 2 for at, number in enumerate(numbers)))

    study.optimize(objective, n_trials=40)
    assert study.best_value >= -1.0  # ten of 6,561; forty random ones have -12


def test_directions_may_differ() -> None:
    """The same law, told as a gain and as a loss: the proposals are the same."""

    def proposed(direction: str) -> list[dict[str, object]]:
        study = optuna.create_study(directions=[direction, "minimize"], sampler=of_plain("evolution"))
        sign = 1.0 if direction == "maximize" else -1.0

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            first, second = (trial.suggest_float(name, 0.0, 1.0) for name in ("first", "second"))
            return sign * (first - second**2), first + second

        study.optimize(objective, n_trials=24)
        return [trial.params for trial in study.trials]

    assert proposed("maximize") == proposed("minimize")


@pytest.mark.parametrize("name", OWN)
def test_parameters_of_one_value_keep_it(name: str) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=of_plain(name))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        only = trial.suggest_float("only", 2.0, 2.0)
        whole = trial.suggest_int("whole", 7, 7, log=True)
        text = trial.suggest_categorical("text", ["a"])
        x = trial.suggest_float("x", 0.0, 1.0)
        assert (only, whole, text) == (2.0, 7, "a")
        return x, x**2

    study.optimize(objective, n_trials=12)
    assert len({trial.params["x"] for trial in study.trials}) == 12


@pytest.mark.parametrize("name", OWN)
def test_spaces_change_from_trial_to_trial(name: str) -> None:
    study = optuna.create_study(direction="minimize", sampler=of_plain(name))

    def objective(trial: optuna.Trial) -> float:
        layers = trial.suggest_int("layers", 1, 3)
        widths = [trial.suggest_int(f"width{at}", 4, 32, step=4) for at in range(layers)]
        wide = trial.suggest_float("range", 0.0, 1.0 + trial.number % 2)
        return layers + sum(widths) + wide

    study.optimize(objective, n_trials=20)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("name", OWN)
def test_queued_trials_are_kept_and_not_proposed_again(name: str) -> None:
    space = grid_space(3, 3)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=plain_or_of(name, space))
    study.enqueue_trial({"x0": 1, "x1": 2, "x2": 0})
    study.enqueue_trial({"x1": 2})  # the others are drawn
    study.add_trial(
        optuna.trial.create_trial(
            params={"x0": 0, "x1": 1, "x2": 1},
            distributions={f"x{at}": IntDistribution(0, 2) for at in range(3)},
            values=[1.0, 2.0],
        )
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        values = [trial.suggest_int(f"x{at}", 0, 2) for at in range(3)]
        return float(sum(values)), float(-values[0] * values[1])

    study.optimize(objective, n_trials=16)
    assert study.trials[0].params == {"x0": 1, "x1": 2, "x2": 0}
    assert study.trials[1].params["x1"] == 2
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 17


def plain_or_of(name: str, space: dynnas.Space) -> BaseSampler:
    return make_sampler(name, space, population=4, seed=0)


@pytest.mark.parametrize("name", [*OWN, "random", "tpe", "nsga2"])
def test_threads_evaluate_no_architecture_twice(name: str) -> None:
    space = grid_space(3, 3)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=plain_or_of(name, space))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        values = [int(value) for value in suggest(trial, space).values()]  # type: ignore[call-overload]
        return float(sum(values)), float(-values[0])

    study.optimize(objective, n_trials=space.size, n_jobs=4)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == space.size == 27
    with pytest.raises(ExhaustedError, match="all 27 architectures have been proposed"):
        suggest(study.ask(), space)


def test_what_was_handed_to_another_thread_is_not_handed_out_again() -> None:
    """Two trials ask before either has told the study its values."""
    space = grid_space(2, 3)
    sampler = make_sampler("evolution", space, population=4, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    trials = [study.ask() for _ in range(space.size)]
    frozen = [frozen_of(study, trial) for trial in trials]
    handed = [sampler.sample_relative(study, one, {}) for one in frozen]
    assert len({tuple(values.items()) for values in handed}) == space.size
    with pytest.raises(ExhaustedError, match="all 9 architectures have been proposed"):
        sampler.sample_relative(study, frozen_of(study, study.ask()), {})
    # One that fails before it has its values leaves them to others.
    study.tell(trials[4], state=TrialState.FAIL)
    assert sampler.sample_relative(study, frozen_of(study, study.ask()), {}) == handed[4]


def frozen_of(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return study.trials[trial.number]


@pytest.mark.parametrize("name", OWN)
def test_plain_studies_run_in_threads(name: str) -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=of_plain(name))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 1e-4, 1.0, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b", None])
        return x, x * (1 if kind == "a" else 2)

    study.optimize(objective, n_trials=24, n_jobs=4)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("name", OWN)
def test_trials_may_be_pruned_fail_or_give_no_number(name: str) -> None:
    study = optuna.create_study(direction="minimize", sampler=of_plain(name))

    def objective(trial: optuna.Trial) -> float:
        values = [trial.suggest_int(f"x{at}", 0, 4) for at in range(3)]
        trial.report(1.0, 0)
        if trial.number % 5 == 1:
            raise optuna.TrialPruned
        if trial.number % 5 == 2:
            raise ValueError("out of memory")
        return float("nan") if trial.number % 5 == 3 else float(sum(values))

    study.optimize(objective, n_trials=30, catch=(ValueError,))
    states = [trial.state for trial in study.trials]
    assert [states.count(state) for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)] == [
        12,
        6,
        12,
    ]
    tried = [tuple(trial.params.values()) for trial in study.trials[1:]]  # a random one was first
    assert len(set(tried)) == 29


@pytest.mark.parametrize("name", OWN)
def test_ask_and_tell_in_any_order_some_never(name: str) -> None:
    sampler = of_plain(name)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    space = {"x": FloatDistribution(0.0, 1.0), "n": IntDistribution(1, 64, log=True)}
    for _ in range(6):
        trials = [study.ask(space) for _ in range(4)]
        for trial in trials[:0:-1]:  # the first is never told
            study.tell(trial, [trial.params["x"], 1.0 / trial.params["n"]])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 24


def test_a_choice_of_two_thousand_texts() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=of_plain("guided"))
    texts = [f"text {at}" for at in range(2000)]

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        place = texts.index(trial.suggest_categorical("text", texts))
        return float(place), -float(place % 7)

    study.optimize(objective, n_trials=14)
    assert len({trial.params["text"] for trial in study.trials}) == 14


@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(0, 2**62),
        IntDistribution(-(2**53) - 1, 2**53 + 1, step=2),
        FloatDistribution(-1e300, 1e300),
    ],
)
def test_ranges_of_any_size(distribution: BaseDistribution) -> None:
    study = optuna.create_study(direction="minimize", sampler=of_plain("guided"))
    for _ in range(13):
        trial = study.ask({"x": distribution})
        assert distribution._contains(trial.params["x"])
        study.tell(trial, float(trial.params["x"]))


def test_levels_become_finer_where_all_were_tried() -> None:
    study = optuna.create_study(direction="minimize", sampler=of_plain("guided"))
    for _ in range(48):
        trial = study.ask({"x": FloatDistribution(0.0, 1.0)})
        study.tell(trial, (trial.params["x"] - 0.3217) ** 2)
    # The nearest of 33 levels is drawn once from a range of 1/32.
    assert abs(study.best_params["x"] - 0.3217) < 1 / 250


@pytest.mark.parametrize("name", OWN)
def test_where_all_values_were_tried_some_come_again(name: str) -> None:
    study = optuna.create_study(direction="minimize", sampler=of_plain(name))
    for _ in range(15):
        trial = study.ask({"a": CategoricalDistribution(("x", "y")), "b": IntDistribution(0, 3)})
        study.tell(trial, float(trial.params["b"]))
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 8


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_propose_as_the_sampler_does(copied: Callable[[BaseSampler], BaseSampler]) -> None:
    sampler = of_plain("guided")
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0), "n": IntDistribution(0, 40)}

    def run(trials: int) -> list[dict[str, object]]:
        for _ in range(trials):
            trial = study.ask(space)
            study.tell(trial, [trial.params["x"], -trial.params["n"]])
        return [trial.params for trial in study.trials]

    run(12)
    other = optuna.create_study(directions=["minimize", "minimize"], sampler=copied(sampler))
    other.add_trials(study.trials)
    frozen = [frozen_of(one, one.ask()) for one in (study, other)]
    first, second = (
        one.sampler.sample_relative(one, trial, space)
        for one, trial in zip((study, other), frozen, strict=True)
    )
    assert first == second


def test_a_copied_lock_is_free() -> None:
    lock = OwnLock()
    with lock:
        other = copy.deepcopy(lock)
        entered = []

        def enter() -> None:
            with other:
                entered.append(True)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(10)
    assert entered == [True]


def test_samplers_that_serve_by_themselves_or_not_at_all_are_refused() -> None:
    message = "tpe does not serve over ordinary distributions; guided, evolution do; Optuna's own"
    with pytest.raises(StudyError, match=message):
        PlainSampler("tpe")
    with pytest.raises(StudyError, match="unknown sampler 'gided'"):
        PlainSampler("gided")


def test_a_plain_sampler_serves_a_search() -> None:
    front = dynnas.search(grid_space(3, 4), Table(), sampler=of_plain("guided"), trials=20)
    assert front


def test_limits_that_trials_state_are_kept() -> None:
    """`trial.set_constraint`, as in any study of Optuna."""
    study = optuna.create_study(direction="maximize", sampler=of_plain("guided"))
    for _ in range(32):
        trial = study.ask({f"x{at}": IntDistribution(0, 9) for at in range(3)})
        values = [float(value) for value in trial.params.values()]
        trial.set_constraint("weight", sum(values) - 8)
        study.tell(trial, values[0] + 2 * values[1] + 0.5 * values[2])
    kept = [trial for trial in study.trials if sum(trial.params.values()) <= 8]
    assert max(trial.values[0] for trial in kept) == 16.0  # all of it in the second


def test_every_combination_of_objectives_and_spaces_goes_through() -> None:
    kinds: dict[str, BaseDistribution] = {
        "float": FloatDistribution(-1.0, 1.0),
        "step": FloatDistribution(0.0, 1.0, step=0.25),
        "log": FloatDistribution(1e-6, 1.0, log=True),
        "int": IntDistribution(-5, 5),
        "log int": IntDistribution(1, 1000, log=True),
        "text": CategoricalDistribution((None, 1, "one", 1.5, True)),
    }
    for objectives, names in zip(itertools.cycle((1, 2, 4)), itertools.combinations(kinds, 2), strict=False):
        study = optuna.create_study(directions=["minimize"] * objectives, sampler=of_plain("guided"))
        for number in range(11):
            trial = study.ask({name: kinds[name] for name in names})
            place = [sum(map(ord, str(value))) % 11 for value in trial.params.values()]
            study.tell(trial, np.roll([sum(place), *place, number], number)[:objectives].tolist())
        assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 11
