"""The head that a task builds, behind a neck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from dynnas.errors import SpaceError
from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.heads.neck import FINEST, NECK, Neck
from dynnas.nn.registry import HEADS, MapHead


@HEADS.register("task")
class OfTask(MapHead):
    """Builds the head of the task (`Task.head`) on the maps of a feature pyramid."""

    answers: ClassVar[str] = ""
    knobs = (NECK, FINEST)
    capacity = 30.0
    paper = "Lin et al. 2017, arXiv:1612.03144 (the pyramid)"

    def __init__(self, config: MapHeadConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: no data have said the task yet.
        """
        super().__init__()
        if config.task is None:
            raise SpaceError(
                "head.kind task: which head that is, the task says once the data are known; give the data "
                "(Space.of_data(shape, task), or a study)"
            )
        width = int(config.kind["neck"])
        self.task, self.scale = config.task.task, config.scale
        self.neck = Neck(config.in_channels, config.strides, width)
        self.head = self.task.head([width] * len(config.strides), config.strides)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, Ci, Hi, Wi), the finest first, to the output of the task (B, ...)."""
        found: Any = self.head(self.neck(maps))
        answer: Tensor = self.task.rescaled(found, self.scale)
        return answer
