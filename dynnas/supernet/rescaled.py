"""A network that looks at smaller images than those of the data, and answers in pixels of the data."""

from __future__ import annotations

from typing import Any

from torch import nn

from dynnas.tasks.task import Task


class Rescaled(nn.Module):
    """A network with `Task.rescaled` behind it.

    Args:
        network: whose outputs are in pixels of the images that it gets.
        task: that brings them to pixels of the data.
        scale: pixels of the data for one that the network sees, along x and y.
    """

    def __init__(self, network: nn.Module, task: Task, scale: tuple[float, float]) -> None:
        super().__init__()
        self.network, self.task, self.scale = network, task, scale

    def forward(self, *inputs: Any) -> Any:
        """Map what the network takes to its outputs in pixels of the data."""
        return self.task.rescaled(self.network(*inputs), self.scale)
