"""Neural architecture search over dynamic design spaces, ranked by accuracy and measured latency.

The names below are imported when they are first used, so that `import dynnas` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynnas import tasks
    from dynnas.language.parser import load_space
    from dynnas.settings.settings import TargetSettings as Target
    from dynnas.space.choices import each, when
    from dynnas.space.space import Space
    from dynnas.study.study import open_study
    from dynnas.supernet.conversion.convert import elastic
    from dynnas.supernet.supernet import Supernet
    from dynnas.workflows.search import search

__version__ = "0.1.0"

__all__ = [
    "Space",
    "Supernet",
    "Target",
    "__version__",
    "each",
    "elastic",
    "load_space",
    "open_study",
    "search",
    "tasks",
    "when",
]

_HOMES = {
    "Space": ("dynnas.space.space", "Space"),
    "Supernet": ("dynnas.supernet.supernet", "Supernet"),
    "Target": ("dynnas.settings.settings", "TargetSettings"),
    "each": ("dynnas.space.choices", "each"),
    "elastic": ("dynnas.supernet.conversion.convert", "elastic"),
    "load_space": ("dynnas.language.parser", "load_space"),
    "open_study": ("dynnas.study.study", "open_study"),
    "search": ("dynnas.workflows.search", "search"),
    "when": ("dynnas.space.choices", "when"),
}


def public(name: str) -> Any:
    """Return the public class or function of that name, from the module that defines it."""
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __getattr__(name: str) -> Any:
    if name in ("search", "tasks"):  # packages; the former can be called
        return importlib.import_module(f"dynnas.{name}")
    if name in _HOMES:
        return public(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
