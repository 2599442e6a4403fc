"""Neural architecture search over dynamic design spaces, ranked by accuracy and measured latency.

The names below are imported when they are first used, so that `import dynnas` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynnas import tasks
    from dynnas.language.parser import load_space
    from dynnas.search.api import search
    from dynnas.study.study import open_study

__version__ = "0.1.0"

__all__ = ["__version__", "load_space", "open_study", "search", "tasks"]

_HOMES = {"load_space": "dynnas.language.parser", "open_study": "dynnas.study.study"}


def __getattr__(name: str) -> Any:
    if name in ("search", "tasks"):  # packages; the former can be called
        return importlib.import_module(f"dynnas.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
