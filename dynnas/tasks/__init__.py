"""Tasks: they say what the outputs of networks mean, with losses, distillation, confidence and scores.

The names below are imported when they are first used, so that `import dynnas.tasks` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynnas.lazy import lazy

if TYPE_CHECKING:
    from dynnas.tasks.builtin.classification import Classification
    from dynnas.tasks.builtin.detection import Detection
    from dynnas.tasks.builtin.functions import Functions
    from dynnas.tasks.builtin.multi_label import MultiLabel
    from dynnas.tasks.builtin.regression import Regression
    from dynnas.tasks.builtin.segmentation import Segmentation
    from dynnas.tasks.detection_head import DetectionHead
    from dynnas.tasks.detections import Detections
    from dynnas.tasks.heads import WithHead
    from dynnas.tasks.registry import TASKS
    from dynnas.tasks.scored import ScoredModel
    from dynnas.tasks.task import Task
    from dynnas.tasks.view import View

__all__ = [
    "TASKS",
    "Classification",
    "Detection",
    "DetectionHead",
    "Detections",
    "Functions",
    "MultiLabel",
    "Regression",
    "ScoredModel",
    "Segmentation",
    "Task",
    "View",
    "WithHead",
]

_HOMES = {
    "TASKS": "registry",
    "ScoredModel": "scored",
    "Task": "task",
    "View": "view",
    "Classification": "builtin.classification",
    "Detection": "builtin.detection",
    "DetectionHead": "detection_head",
    "Detections": "detections",
    "MultiLabel": "builtin.multi_label",
    "Regression": "builtin.regression",
    "Segmentation": "builtin.segmentation",
    "Functions": "builtin.functions",
    "WithHead": "heads",
}

__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
