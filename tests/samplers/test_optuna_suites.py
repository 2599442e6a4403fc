"""Optuna's own test suites over our samplers: in any Optuna study they behave as samplers should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase

from dynnas.samplers.make import make_sampler
from dynnas.samplers.plain import PlainSampler
from dynnas.space.gene import Gene
from dynnas.space.space import Space

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

# Names that no test of Optuna uses: its own parameters are drawn beside the genes.
SPACE = Space(name="beside", genes=tuple(Gene(f"gene{at}", tuple(range(8)), ordered=True) for at in range(4)))


OF_A_SPACE = ("guided", "evolution", "random", "tpe", "nsga2", "nsga3")
OF_ANY_STUDY = ("guided", "evolution")


@pytest.fixture(params=[*OF_A_SPACE, *(f"plain {name}" for name in OF_ANY_STUDY)])
def sampler(request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
    """Makes a sampler of a name, for architectures of a space or for any study."""
    kind, _, name = request.param.rpartition(" ")
    if kind:
        return lambda: PlainSampler(name, seed=0)
    return lambda: make_sampler(name, SPACE, population=4, seed=0)


class TestBasic(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self, sampler: Callable[[], BaseSampler]) -> Callable[[], BaseSampler]:
        return sampler


class TestMultiObjective(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, sampler: Callable[[], BaseSampler]) -> Callable[[], BaseSampler]:
        return sampler
