"""The config of a network of any height and width whose head reads its maps by their strides."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig, StemConfig
from dynnas.tasks.detections import Detections
from dynnas.tasks.task import Task


@dataclass(frozen=True)
class TaskOfData:
    """A task as a value: equal to others of the same facts.

    Attributes:
        facts: of the task, as JSON.
        task: that knows the data.
    """

    facts: str
    task: Task = field(compare=False, repr=False)

    @staticmethod
    def of(task: Task) -> TaskOfData:
        """Return a task as a value."""
        return TaskOfData(json.dumps(dict(task.facts()), sort_keys=True, default=str), task)


@dataclass(frozen=True)
class MapHeadConfig:
    """A head that reads maps and gives an answer for places: of pixels, or boxes.

    Attributes:
        kind: its name in `dynnas.nn.registry.HEADS`, with the knobs of that kind.
        in_channels: channels of the maps that it reads, the finest first.
        strides: pixels of the image between two places of each of them.
        outputs: numbers for each place, such as the classes.
        scale: what boxes are multiplied by, along x and y: pixels of the data for one that it sees.
        detections: how outputs become boxes; None where there are none.
        task: that builds the head, where the kind is `task`; None where another does, or no data are known.
    """

    kind: Choice
    in_channels: tuple[int, ...]
    strides: tuple[int, ...]
    outputs: int
    scale: tuple[float, float] = (1.0, 1.0)
    detections: Detections | None = None
    task: TaskOfData | None = None


@dataclass(frozen=True)
class BackboneConfig:
    """A network for images (channels, height, width): stem and blocks in order, and a head on their maps.

    Attributes:
        size: height and width of the images.
        blocks: with their slots, as `stage2.0`.
        head: that reads maps of several strides.
    """

    channels: int
    size: tuple[int, int]
    stem: StemConfig
    blocks: tuple[tuple[str, BlockConfig], ...]
    head: MapHeadConfig

    @property
    def taps(self) -> dict[int, str]:
        """Return after which slot the map of each stride is taken: the last one of that stride, in order."""
        return taps_of(self.stem, self.blocks)


def taps_of(stem: StemConfig, blocks: tuple[tuple[str, BlockConfig], ...]) -> dict[int, str]:
    """Return the last slot of each stride, finest first."""
    found, stride = {}, stem.stride
    for slot, block in blocks:
        stride *= block.stride
        found[stride] = slot
    return found
