"""Neural architecture search over dynamic design spaces, ranked by accuracy and measured latency.

The names below are imported when they are first used, so that `import dynnas` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynnas.search import open_study, search
    from dynnas.space import load_space

__version__ = "0.1.0"

__all__ = ["__version__", "load_space", "open_study", "search"]

_ROOMS = {"load_space": "dynnas.space", "open_study": "dynnas.search"}


def __getattr__(name: str) -> Any:
    if name == "search":  # the room itself, which can be called
        return importlib.import_module("dynnas.search")
    if name in _ROOMS:
        return getattr(importlib.import_module(_ROOMS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
