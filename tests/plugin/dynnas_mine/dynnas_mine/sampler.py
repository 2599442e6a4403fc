"""An Optuna sampler: each parameter takes its last values more often than its first."""

import random

from optuna.samplers import BaseSampler


class Backwards(BaseSampler):
    """The larger of two draws of every parameter."""

    def __init__(self, seed=None):
        self.random = random.Random(seed)

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        if hasattr(param_distribution, "choices"):
            choices = param_distribution.choices
            return choices[max(self.random.randrange(len(choices)) for _ in range(2))]
        steps = (param_distribution.high - param_distribution.low) // param_distribution.step
        return param_distribution.low + param_distribution.step * max(
            self.random.randint(0, steps) for _ in range(2)
        )
