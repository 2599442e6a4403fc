"""The search: goals, Optuna's samplers on a conditional space, studies that survive being killed.

This package can be called: `dynnas.search(space, evaluator)` is `dynnas.search.search`, documented there.
"""

import sys
from types import ModuleType

from dynnas.search.api import search
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import Evaluator, StagedEvaluator
from dynnas.search.front import Candidate, Front, worst_point
from dynnas.search.goal import Goal, Objective
from dynnas.search.metrics import METRICS, Metric

__all__ = [
    "METRICS",
    "Cache",
    "CachedEvaluator",
    "Candidate",
    "Evaluator",
    "Front",
    "Goal",
    "Metric",
    "Objective",
    "StagedEvaluator",
    "search",
    "worst_point",
]


class _CallableRoom(ModuleType):
    """Importing this package puts it at `dynnas.search`, where the function is looked for too."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _CallableRoom
