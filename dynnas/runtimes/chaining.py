"""Cascades made of finished networks, which answer in one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dynnas.nn.exits.exits import TASK
from dynnas.nn.networks.network import Network
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.plain import PlainNetwork, blank_images
from dynnas.tasks.task import Task

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Answering:
    """The meaning and the shape of what the networks of a cascade answer.

    Attributes:
        task: which says what outputs mean.
        shape: of an output of each network, without the batch.
    """

    task: Task
    shape: Shape

    @staticmethod
    def of(task: Task, shapes: Sequence[Shape]) -> Answering:
        """Return the largest of some shapes, in which the answers of all networks are said.

        Raises:
            TaskError: the task does not say one of them in that shape.
        """
        found = Answering(task, max(shapes, key=math.prod))
        for shape in shapes:
            found(torch.zeros(1, *shape))
        return found

    def __call__(self, output: Tensor) -> Tensor:
        """Return an output (B, ...) in the shape.

        Raises:
            TaskError: the task does not say it so.
        """
        return self.task.in_shape(output, self.shape)


def chain(
    networks: Sequence[Network],
    thresholds: Sequence[float],
    names: Sequence[str],
    size: tuple[int, int],
    answering: Answering | None = None,
) -> Cascade:
    """Return a cascade of images as its networks take them, or of the size of the data where these differ.

    Args:
        networks, thresholds, names: as a `Cascade` takes them.
        size: height and width of the data.
        answering: of networks whose outputs are not logits of classes, or not of one shape.

    Raises:
        TaskError: networks answer in several shapes, and the task does not say one in another.
    """
    sizes = {network.config.shape[1:] for network in networks}
    if answering is not None:
        networks = [_in_shape(network, answering) for network in networks]
    # Without a task it is the one of exits, whose cascades are sent to any device.
    task = None if answering is None or type(answering.task) is type(TASK) else answering.task
    return Cascade(networks, thresholds, names, sizes.pop() if len(sizes) == 1 else size, task)


@torch.no_grad()
def _in_shape(network: Network, answering: Answering) -> Network:
    if not isinstance(network, PlainNetwork):
        return network
    like = next(network.parameters(), torch.empty(0))
    output = network(blank_images(network.config).to(like.device, like.dtype))
    if tuple(output.shape[1:]) == answering.shape:
        return network
    config = network.config
    made = PlainNetwork(_InShape(network.module, answering), config.shape, config.classes)
    return cast(Network, made.eval())


class _InShape(nn.Module):
    """A network whose outputs are said in another shape."""

    def __init__(self, module: nn.Module, answering: Answering) -> None:
        super().__init__()
        self.module, self.answering = module, answering

    def forward(self, x: Tensor) -> Tensor:
        output = self.module(x)
        return self.answering(output[-1] if isinstance(output, tuple | list) else output)
