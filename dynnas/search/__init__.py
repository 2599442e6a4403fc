"""The search: goals, Optuna's samplers on a conditional space, studies that survive being killed.

This package can be called: `dynnas.search(space, evaluator)` is `dynnas.search.search`, documented there.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dynnas.search.api import search
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.controls import Comparison, Controls
from dynnas.search.evaluator import Evaluator, StagedEvaluator
from dynnas.search.folder import StudyFolder
from dynnas.search.front import Candidate, Front, worst_point
from dynnas.search.goal import Goal, Objective
from dynnas.search.metrics import METRICS, Metric

if TYPE_CHECKING:
    from dynnas.search.beginning import delete_study
    from dynnas.search.pipeline import run_study
    from dynnas.search.study import Study, open_study

__all__ = [
    "METRICS",
    "Cache",
    "CachedEvaluator",
    "Candidate",
    "Comparison",
    "Controls",
    "Evaluator",
    "Front",
    "Goal",
    "Metric",
    "Objective",
    "StagedEvaluator",
    "Study",
    "StudyFolder",
    "delete_study",
    "open_study",
    "run_study",
    "search",
    "worst_point",
]

# These bring torch, which a search of a table does without.
_LATER = {
    "Study": "dynnas.search.study",
    "delete_study": "dynnas.search.beginning",
    "open_study": "dynnas.search.study",
    "run_study": "dynnas.search.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


class _CallableRoom(ModuleType):
    """Importing this package puts it at `dynnas.search`, where the function is looked for too."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _CallableRoom
