"""Optuna's own test suites over our samplers: in any Optuna study they behave as samplers should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase

from dynnas.samplers.make import make_sampler
from dynnas.samplers.plain import PlainSampler
from dynnas.settings.registries import SAMPLERS
from dynnas.space.gene import Gene
from dynnas.space.space import Space

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

# Names that no test of Optuna uses: its own parameters are drawn beside the genes.
SPACE = Space(name="beside", genes=tuple(Gene(f"gene{at}", tuple(range(8)), ordered=True) for at in range(4)))


# Slimming is for two objectives, which are more than the basic suite has.
OF_TWO_OBJECTIVES = ("autoslim", "autoslim-rate")
OF_A_SPACE = tuple(name for name in SAMPLERS if name not in OF_TWO_OBJECTIVES)
OF_ANY_STUDY = tuple(f"plain {name}" for name in ("guided", "evolution"))


def made(named: str) -> Callable[[], BaseSampler]:
    """Makes a sampler of a name, for architectures of a space or for any study."""
    kind, _, name = named.rpartition(" ")
    if kind:
        return lambda: PlainSampler(name, seed=0)
    return lambda: make_sampler(name, SPACE, population=4, seed=0)


class TestBasic(BasicSamplerTestCase):
    @pytest.fixture(params=[*OF_A_SPACE, *OF_ANY_STUDY])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return made(request.param)


class TestMultiObjective(MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=[*OF_A_SPACE, *OF_ANY_STUDY, *OF_TWO_OBJECTIVES])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return made(request.param)
