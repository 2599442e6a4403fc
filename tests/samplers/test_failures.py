"""Failed evaluations: samplers learn where they are, and keep away."""

import optuna
import pytest
from support.tables import grid_space

from dynnas.samplers.architecture import suggest
from dynnas.samplers.genome import Genome
from dynnas.samplers.history import FAILED, Reader
from dynnas.samplers.make import make_sampler
from dynnas.samplers.trials import ERROR, KEY

SPACE = grid_space(4, 5)


def failures(sampler: str, trials: int) -> tuple[list[int], optuna.Study]:
    """Trials that failed where a third of the space does, right beside the most accurate that does not."""
    chosen = make_sampler(sampler, SPACE, population=8, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=chosen)
    for _ in range(trials):
        trial = study.ask()
        values = [float(value) for value in suggest(trial, SPACE).values()]
        if values[0] + values[1] > 4.5:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, [values[0] + values[1] + 0.3 * values[2], 1 + values[2] + values[3]])
    failed = [trial.number for trial in study.trials if trial.state == optuna.trial.TrialState.FAIL]
    return failed, study


def test_guided_keeps_away_from_what_fails() -> None:
    failed, study = failures("guided", 60)
    assert len([number for number in failed if number >= 20]) <= 16  # 38 of 40 if failures say nothing
    assert max(trial.values[0] for trial in study.trials if trial.values) == pytest.approx(5.2)


def test_a_failed_evaluation_breaks_a_limit_and_an_interrupted_one_says_nothing() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    genome = Genome(SPACE)
    distributions = {f"x{at}": optuna.distributions.IntDistribution(0, 4) for at in range(4)}
    state = optuna.trial.TrialState
    for at, (outcome, attributes) in enumerate(
        [
            (state.COMPLETE, {}),
            (state.FAIL, {}),
            (state.FAIL, {KEY: "of dynnas", ERROR: "out of memory"}),
            (state.FAIL, {KEY: "of dynnas"}),
        ]
    ):
        study.add_trial(
            optuna.trial.create_trial(
                state=outcome,
                params={f"x{gene}": at for gene in range(4)},
                distributions=distributions,
                values=[1.0, 2.0] if outcome == state.COMPLETE else None,
                user_attrs=attributes,
            )
        )
    history = Reader(genome, None).read(study)
    assert history.violations[FAILED].tolist() == [-1, 1, 1]
    assert history.failed.tolist() == [False, True, True]
    assert history.feasible.tolist() == [True, False, False]
    assert len(history.taken) == 4
