"""`guided`, `evolution` and `autoslim`: in any Optuna study, within limits, resumed, and on the right way."""

import itertools
import statistics
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.problems import Evaluation, Problem, cells, fractions
from support.tables import Table, conditional_space, grid_space
from test_genome import spaces
from threadpoolctl import threadpool_info, threadpool_limits

import dynnas
from dynnas.errors import StudyError
from dynnas.language.parser import parse_space
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.architecture import suggest
from dynnas.samplers.evolution import MOVES, move_rates
from dynnas.samplers.genome import Genome
from dynnas.samplers.history import Reader
from dynnas.samplers.make import make_sampler
from dynnas.samplers.model.acquisition import Outlook
from dynnas.samplers.slimming import Slimming
from dynnas.samplers.trials import MOVE
from dynnas.search.loop import SearchLoop
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import open_trials
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.moves import largest
from dynnas.space.space import Space

OWN = ("guided", "evolution")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("sampler", [*OWN, "autoslim", "autoslim-rate"])
def test_serves_in_a_study_that_dynnas_does_not_drive(sampler: str) -> None:
    space = grid_space(3, 3)
    chosen = make_sampler(sampler, space, population=8, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=chosen)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        values = [trial.suggest_int(gene.name, 0, 2) for gene in space.genes]
        return float(sum(values)) + 0.1 * values[0], float(np.prod([value + 1 for value in values]))

    study.optimize(objective, n_trials=27)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == space.size == 27
    with pytest.raises(StudyError, match="all 27 architectures have been proposed"):
        suggest(study.ask(), space)


@pytest.mark.parametrize("sampler", OWN)
@given(space=spaces(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_conditional_space_is_searched_without_repeat(sampler: str, space: Space, seed: int) -> None:
    trials = min(space.size, 24)
    chosen = make_sampler(sampler, space, population=8, seed=seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=chosen)
    seen = set()
    for _ in range(trials):
        trial = study.ask()
        architecture = suggest(trial, space)
        seen.add(architecture.key)
        number = int(architecture.key, 16)
        study.tell(trial, [float(number % 17), float(number % 5)])
    assert len(seen) == trials


@pytest.mark.parametrize("objectives", [1, 3])
def test_one_and_three_objectives(objectives: int) -> None:
    space = grid_space(4, 4)

    class Metrics:
        def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
            values = np.array(list(architecture.values()), dtype=float)
            return {f"m{at}": float(((values - at) ** 2).sum()) for at in range(objectives)}

    names = {f"m{at}": "minimize" for at in range(objectives)}
    front = dynnas.search(space, Metrics(), trials=60, objectives=names)
    best = min(member.metrics["m0"] for member in front)
    assert best == 0.0


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sampler", OWN)
def test_limits_are_kept_once_they_can_be_known(sampler: str, known: bool) -> None:
    """Half of the space breaks the limit: a sampler that knows the cost never does, another one learns."""
    table = Table()
    evaluator = Known(table) if known else table
    space, trials, broken = grid_space(), 70, []
    storage = open_storage(None)
    goal = Goal.of(("accuracy", "latency_ms"), {"latency_ms": 7.0})
    cheap = evaluator.cheap if isinstance(evaluator, Known) else None
    chosen = make_sampler(sampler, space, population=8, seed=0, goal=goal, cheap=cheap)
    study = open_trials(storage, "limits", space, goal.objectives, chosen)
    SearchLoop(study, space, evaluator, goal).run(trials, Progress())
    broken = [trial.number for trial in study.trials if "rejected" in trial.user_attrs]
    if known:
        assert broken == [1]  # the largest network, which every search begins with
    else:
        assert len([number for number in broken if number >= 20]) < 15


class Known:
    """A table whose latency is known in advance."""

    def __init__(self, table: Table) -> None:
        self.stages = table.stages

    def cheap(self, architecture: Architecture) -> Mapping[str, float]:
        return {"latency_ms": 1.0 + sum(float(value) for value in architecture.values())}


def test_a_tight_limit_that_is_only_measured_is_found() -> None:
    """Two per cent of the space are feasible, and random candidates hardly ever."""
    space = grid_space(6, 4)

    class Narrow:
        def stages(self, architecture: Architecture):
            values = np.array(list(architecture.values()), dtype=float)
            yield {"latency_ms": 1 + values.sum()}
            yield {"accuracy": float(values @ [3, 1, 2, 5, 1, 1])}

    front = dynnas.search(space, Narrow(), trials=80, limits={"latency_ms": 4.0})
    assert front.pick("most-accurate").metrics == {"latency_ms": 4.0, "accuracy": 15.0}


def test_what_cannot_be_evaluated_is_not_proposed_where_that_is_known() -> None:
    space = grid_space(4, 4)

    class Holes:
        def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
            assert self.cheap(architecture) is not None or sum(architecture.values()) in (0, 12)
            return {"accuracy": float(sum(architecture.values())), "latency_ms": float(architecture["x0"])}

        def cheap(self, architecture: Architecture) -> Mapping[str, float] | None:
            return None if sum(architecture.values()) % 3 == 0 else {}

    dynnas.search(space, Holes(), trials=60)


def test_guided_computes_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of OpenBLAS that spin beside busy processes make it ten times slower."""
    threads = []

    def spied(self: Outlook, rows: np.ndarray) -> np.ndarray:
        threads.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return worth(self, rows)

    worth = Outlook.worth
    monkeypatch.setattr(Outlook, "worth", spied)
    with threadpool_limits(limits=2, user_api="blas"):
        front = dynnas.search(grid_space(), Table(), trials=12, sampler="guided")
        after = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    assert front
    assert set(threads) == {1}
    assert set(after) == {2}


def searched(problem: Problem, cost: str, sampler: str, trials: int, seed: int, **kinds: bool) -> float:
    evaluation = Evaluation(problem, cost, rng=np.random.default_rng(seed))
    goal = Goal.of({"accuracy": "maximize", cost: "minimize"})
    cheap = evaluation.cheap if kinds.get("knows", True) else None
    chosen = make_sampler(sampler, problem.space, population=10, seed=seed, goal=goal, cheap=cheap)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=chosen)
    visited = []
    for _ in range(trials):
        trial = study.ask()
        architecture = suggest(trial, problem.space)
        visited.append(problem.row(architecture))
        metrics = evaluation.evaluate(architecture)
        study.tell(trial, [metrics["accuracy"], metrics[cost]])
    return float(fractions(problem, cost, visited)[-1])


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_guided_beats_nsga2_by_far_on_unseen_cells(noise: float) -> None:
    problem = cells(7, noise=noise)
    guided = statistics.mean(searched(problem, "latency", "guided", 60, seed) for seed in range(2))
    nsga2 = statistics.mean(searched(problem, "latency", "nsga2", 60, seed) for seed in range(2))
    assert guided > nsga2 + 0.1


def searched_by_eight(problem: Problem, cost: str, seed: int) -> float:
    evaluation = Evaluation(problem, cost)
    goal = Goal.of({"accuracy": "maximize", cost: "minimize"})
    chosen = make_sampler(
        "guided", problem.space, population=10, seed=seed, goal=goal, cheap=evaluation.cheap
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=chosen)
    visited = []
    for _ in range(10):
        trials = [study.ask() for _ in range(8)]
        architectures = [suggest(trial, problem.space) for trial in trials]
        visited += [problem.row(architecture) for architecture in architectures]
        for trial, architecture in zip(trials, architectures, strict=True):
            metrics = evaluation.evaluate(architecture)
            study.tell(trial, [metrics["accuracy"], metrics[cost]])
    assert len(set(visited)) == 80
    return float(fractions(problem, cost, visited)[-1])


@pytest.mark.slow
def test_eight_at_a_time_find_nearly_as_much_as_one_by_one() -> None:
    """What is still being evaluated is taken into account: proposals spread over the front."""
    problem, seeds = cells(7), range(3)
    by_eight = statistics.mean(searched_by_eight(problem, "latency", seed) for seed in seeds)
    one_by_one = statistics.mean(searched(problem, "latency", "guided", 80, seed) for seed in seeds)
    assert by_eight > one_by_one - 0.1


def test_moves_that_pay_are_made_more_often() -> None:
    genes = Genome(grid_space(2, 4))
    study = optuna.create_study(directions=["minimize", "minimize"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(16):
            pays = number % 2 == 0
            value = -float(number) if pays else 5.0
            study.add_trial(
                optuna.trial.create_trial(
                    params={"x0": number // 4, "x1": number % 4},
                    distributions={name: optuna.distributions.IntDistribution(0, 3) for name in ("x0", "x1")},
                    values=[value, value],
                    user_attrs={MOVE: MOVES[0] if pays else MOVES[1]},
                )
            )
    rates = move_rates(Reader(genes, None).read(study))
    assert rates.sum() == pytest.approx(1.0)
    assert rates[0] > 1.4 * rates[2] == pytest.approx(1.4 * rates[3])
    assert rates[1] < 0.7 * rates[2]
    assert rates.min() > 0.08


WIDTHS = """
name: widths
choices:
  a.width: [8, 16, 24]
  b.width: [8, 16]
  c.expand: [2, 3, 4]
  c.op: [static, dynamic]
"""


def losses_of(architecture: Architecture) -> tuple[float, float]:
    """Error and cost, with interactions."""
    a, b, c = (float(architecture[name]) for name in ("a.width", "b.width", "c.expand"))
    return 10 / a + 6 / b + 3 / c + 4 / (a * c) * (b == 8), a * b + 9 * b * c


def brute_force(space: Space, rule: str) -> list[Architecture]:
    """The greedy path by the definition."""
    path = [largest(space)]
    while True:
        values = dict(path[-1])
        steps = []
        for gene in space.genes:
            at = gene.values.index(values[gene.name])
            if gene.name != "c.op" and at > 0:
                steps.append(space.architecture({**values, gene.name: gene.values[at - 1]}))
        if not steps:
            return path
        error, cost = losses_of(path[-1])

        def rank(step: Architecture, error: float = error, cost: float = cost) -> float:
            lost, saved = losses_of(step)[0] - error, cost - losses_of(step)[1]
            return lost if rule == "loss" else lost / saved

        path.append(min(steps, key=rank))


@pytest.mark.parametrize(("sampler", "rule"), [("autoslim", "loss"), ("autoslim-rate", "rate")])
def test_slimming_goes_the_greedy_way(sampler: str, rule: str) -> None:
    space = parse_space(WIDTHS)
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=make_sampler(sampler, space, population=8, seed=0)
    )
    expected = brute_force(space, rule)
    # Every step tries each gene that can still shrink, but none twice: ten architectures at most.
    tried: list[Architecture] = []
    while not tried or tried[-1] != expected[-1]:
        trial = study.ask()
        tried.append(suggest(trial, space))
        study.tell(trial, losses_of(tried[-1]))
    assert {architecture["c.op"] for architecture in tried} == {"dynamic"}
    assert tried[0] == largest(space)
    assert Slimming(space, None, "loss" if rule == "loss" else "rate").path(study) == tuple(expected)
    steps = [sum(a[gene] != b[gene] for gene in a) for a, b in itertools.pairwise(expected)]
    assert steps == [1] * 5


def test_a_search_by_slimming_ends_with_the_path(tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(Progress):
        def message(self, text: str) -> None:
            said.append(text)

    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for _ in range(2):  # again, it finds itself at its end
        dynnas.search(
            grid_space(3, 4), Table(), sampler="autoslim", trials=60, storage=storage, progress=Heard()
        )
    trials = optuna.load_study(study_name=None, storage=storage).trials
    # Each step from the corner down makes one of three numbers smaller, of those that still can.
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
    assert 10 <= len(trials) < 4**3
    assert trials[0].params == dict.fromkeys(trials[0].params, 3)
    assert said == ["search: the sampler has reached its end"] * 2


def test_slimming_waits_for_all_of_a_step() -> None:
    space = parse_space(WIDTHS)
    sampler = make_sampler("autoslim", space, population=8, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    trial = study.ask()
    study.tell(trial, losses_of(suggest(trial, space)))
    running = []
    while sampler.stand(study) == "ready":
        trial = study.ask()
        running.append((trial, suggest(trial, space)))
    assert len(running) > 1
    for trial, architecture in running:
        assert sampler.stand(study) == "waiting"
        study.tell(trial, losses_of(architecture))
    assert sampler.stand(study) == "ready"


def test_the_rules_of_slimming_differ() -> None:
    space = parse_space(WIDTHS)
    assert brute_force(space, "loss") != brute_force(space, "rate")


def test_slimming_uses_every_number_where_there_are_no_widths() -> None:
    space = Space(
        "plain", (Gene("n", (1, 2), ordered=True), Gene("t", ("a", "b")), Gene("k", (3, 5), ordered=True))
    )
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=make_sampler("autoslim", space, population=8, seed=0)
    )
    tried = []
    for _ in range(4):
        trial = study.ask()
        tried.append(tuple(suggest(trial, space).values()))
        study.tell(trial, [float(sum(int(value) for value in (tried[-1][0], tried[-1][2]))), 1.0])
    assert tried == [(2, "b", 5), (1, "b", 5), (2, "b", 3), (1, "b", 3)]


def test_slimming_walks_down_to_a_limit() -> None:
    """Networks above a limit are not evaluated: those nearest to it lead on."""
    front = dynnas.search(
        grid_space(3, 4), Table(), sampler="autoslim", trials=20, limits={"latency_ms": 5.0}
    )
    assert front.pick("most-accurate").metrics["latency_ms"] == 5.0


def test_slimming_needs_numbers_and_two_objectives() -> None:
    with pytest.raises(StudyError, match="autoslim shrinks widths or other numbers; space 'texts' has only"):
        make_sampler("autoslim", Space("texts", (Gene("t", ("a", "b")),)), population=8, seed=0)
    with pytest.raises(StudyError, match="autoslim needs two objectives"):
        dynnas.search(grid_space(), Table(), sampler="autoslim", trials=3, objectives=("accuracy",))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("sampler", OWN)
def test_resumed_with_other_kernels_in_memory_it_goes_the_same_way(sampler: str, tmp_path: Path) -> None:
    space = conditional_space()

    def keys(steps: tuple[int, ...], url: str | None) -> list[str]:
        for trials in steps:
            goal = Goal.of(("accuracy", "latency_ms"))
            chosen = make_sampler(sampler, space, population=8, seed=3, goal=goal, cheap=cheap)
            study = open_trials(open_storage(url), "same", space, goal.objectives, chosen)
            SearchLoop(study, space, Table(), goal).run(trials, Progress())
        return [trial.user_attrs["key"] for trial in study.trials]

    def cheap(architecture: Architecture) -> Mapping[str, float]:
        return next(iter(Table().stages(architecture)))

    resumed = keys((13, 18, 26), f"sqlite:///{tmp_path}/resumed.db")
    assert resumed == keys((26,), None)
