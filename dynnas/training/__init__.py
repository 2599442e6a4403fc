"""Training of supernets and networks: one trainer, and the algorithms that a recipe consists of.

The names below are imported when they are first used, so that `import dynnas.training` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynnas.lazy import lazy

if TYPE_CHECKING:
    from dynnas.training.algorithm import ALGORITHMS, Algorithm, register_algorithm, setting
    from dynnas.training.growth.neural_tree import grow_tree
    from dynnas.training.trainer import Trainer

__all__ = ["ALGORITHMS", "Algorithm", "Trainer", "grow_tree", "register_algorithm", "setting"]

_HOMES = {**dict.fromkeys(__all__, "algorithm"), "Trainer": "trainer", "grow_tree": "growth.neural_tree"}

__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
