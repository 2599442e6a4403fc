"""Training of supernets and networks: one trainer, and the algorithms that a recipe consists of.

The names below are imported when they are first used, so that `import dynnas.training` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynnas.training.algorithm import ALGORITHMS, Algorithm, register_algorithm, setting
    from dynnas.training.trainer import Trainer

__all__ = ["ALGORITHMS", "Algorithm", "Trainer", "register_algorithm", "setting"]

_HOMES = {"Trainer": "trainer"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = _HOMES.get(name, "algorithm")
        return getattr(importlib.import_module(f"dynnas.training.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
