"""The config of a network of any height and width whose head reads its maps by their strides."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
class MapExit:
    """A place where images leave: an exit between blocks, or the end of the network.

    Attributes:
        name: as exits are named, or `head`. after: the slot behind which it stands.
        config: of the head that answers there; of the maps that it reads the coarsest is that of `after`.
        shrink: how often that map is coarser after it was brought to the stride that the head answers at.
        threshold: the confidence from which on an image leaves; 0 at the end, where all do.
        criterion: by which the task says how sure it is.
    """

    name: str
    after: str
    config: MapHeadConfig
    shrink: int = 1
    threshold: float = 0.0
    criterion: str = "confidence"

    @property
    def slot(self) -> str:
        """The slot of the head that answers there."""
        return self.name if self.name == "head" else f"exits.{self.name}"

    @property
    def reads(self) -> tuple[int, ...]:
        """The strides of the maps that it reads beside that of `after`, the finest first."""
        return self.config.strides[:-1]


@dataclass(frozen=True)
class BackboneConfig:
    """A network for images (channels, height, width): stem and blocks in order, and a head on their maps.

    Attributes:
        size: height and width of the images.
        blocks: with their slots, as `stage2.0`.
        head: that reads maps of several strides.
        exits: by which images may leave before, in order.
        task: that says how sure an exit is; None where there are no exits, or no data are known.
    """

    channels: int
    size: tuple[int, int]
    stem: StemConfig
    blocks: tuple[tuple[str, BlockConfig], ...]
    head: MapHeadConfig
    exits: tuple[MapExit, ...] = ()
    task: TaskOfData | None = None

    @property
    def taps(self) -> dict[int, str]:
        """Return after which slot the map of each stride is taken: the last one of that stride, in order."""
        return taps_of(self.stem, self.blocks)

    @property
    def ends(self) -> tuple[MapExit, ...]:
        """The exits in order, and at last the end of the network."""
        return (*self.exits, MapExit("head", self.blocks[-1][0], self.head))

    def stretches(self) -> Iterator[tuple[tuple[tuple[str, StemConfig | BlockConfig], ...], MapExit]]:
        """Yield for each end in order the slots that run before it and behind the one before."""
        slots: list[tuple[str, StemConfig | BlockConfig]] = [("stem", self.stem), *self.blocks]
        start, places = 0, {slot: place for place, (slot, _) in enumerate(slots)}
        for end in self.ends:
            stop = places[end.after] + 1
            yield tuple(slots[start:stop]), end
            start = stop

    @property
    def answered(self) -> tuple[int, int]:
        """Height and width of the map that the head answers on."""
        height, width = self.size
        finest = min(self.head.strides)
        return -(-height // finest), -(-width // finest)


def taps_of(stem: StemConfig, blocks: tuple[tuple[str, BlockConfig], ...]) -> dict[int, str]:
    """Return the last slot of each stride, finest first."""
    found, stride = {}, stem.stride
    for slot, block in blocks:
        stride *= block.stride
        found[stride] = slot
    return found
