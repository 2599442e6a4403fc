"""The conformance suite of samplers: every registered one passes, and broken ones are told what is wrong."""

import random

import optuna
import pytest

from dynnas.samplers.architecture import Proposal
from dynnas.samplers.builtin.families import SamplerFamily
from dynnas.settings.registries import SAMPLERS
from dynnas.space.moves import sample
from dynnas.testing.samplers import TRIALS, SamplerSubject, check_sampler, sampler_checks

TRIALS_OF = {"gp": 6}
"""Of slow samplers: Optuna's Gaussian process takes seconds a trial."""


@pytest.mark.parametrize("check", [*sampler_checks()], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SAMPLERS)
def test_registered_samplers_conform(name, check):
    check(SamplerSubject(name, TRIALS_OF.get(name, TRIALS)))


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler, optuna.samplers.TPESampler])
def test_classes_of_optuna_conform(sampler):
    check_sampler(sampler)


class Mine(optuna.samplers.RandomSampler):
    """As anyone would write one."""


class Unseeded(Mine):
    def sample_independent(self, study, trial, param_name, param_distribution):
        return super().sample_independent(study, trial, param_name, param_distribution)

    def __init__(self, seed=None):
        super().__init__(seed=random.SystemRandom().randrange(2**32))


class Wrong(Mine):
    def sample_independent(self, study, trial, param_name, param_distribution):
        return 4


class Impatient(Mine):
    def infer_relative_search_space(self, study, trial):
        for other in study.get_trials(states=(optuna.trial.TrialState.FAIL,)):
            raise RuntimeError(f"trial {other.number} has no values")
        return {}


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        (Unseeded, AssertionError, "sampler Unseeded: with the same seed and results, proposal 1 is another"),
        (Wrong, AssertionError, "a sampler proposes what is no architecture of the space: .*depth"),
        (Impatient, RuntimeError, "trial . has no values"),
    ],
)
def test_a_broken_sampler_is_told_what_is_wrong(sampler, error, message):
    with pytest.raises(error, match=message):
        check_sampler(sampler)


class Counting(SamplerFamily):
    """Draws by how often it was asked in this process."""

    ends_first = False

    @staticmethod
    def make(request):
        asked = []

        def propose(study, trial, draws):
            asked.append(trial.number)
            rng = random.Random(len(asked))
            return (Proposal(sample(request.space, rng)) for _ in range(20))

        return propose


class Refusing(SamplerFamily):
    """Refuses more than two objectives without a reason."""

    ends_first = False

    @staticmethod
    def make(request):
        def propose(study, trial, draws):
            if len(study.directions) > 2:
                raise optuna.exceptions.OptunaError("no")
            rng = random.Random(int(draws.integers(2**32)))
            return (Proposal(sample(request.space, rng)) for _ in range(20))

        return propose


@pytest.mark.parametrize(
    ("family", "error", "message"),
    [
        (Counting, AssertionError, "proposal . of a resumed study is another one; keep nothing that"),
        (Refusing, optuna.exceptions.OptunaError, "no"),
    ],
)
def test_a_broken_family_is_told_what_is_wrong(family, error, message, monkeypatch):
    monkeypatch.setattr(SAMPLERS, "_entries", {**SAMPLERS, "mine": family})
    with pytest.raises(error, match=message):
        check_sampler("mine")
