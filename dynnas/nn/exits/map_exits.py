"""Early exits of a backbone whose head reads several of its maps: small heads on the maps that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.backbone import BackboneConfig, MapExit, TaskOfData
from dynnas.nn.exits.early_exits import EarlyExits, first_of
from dynnas.nn.gates.state import Beside, Carried
from dynnas.nn.registry import HEADS
from dynnas.tasks.builtin.detection import Detection
from dynnas.tasks.builtin.segmentation import Segmentation
from dynnas.tasks.detections import DETECTION, filled_up
from dynnas.tasks.task import Task

_BEFORE_DATA: Mapping[str, Task] = {task.answers: task for task in (Segmentation(), Detection())}
"""The tasks that say how sure an answer is before data have said which it is, by what they answer for."""


class MapExits(EarlyExits):
    """The parts of a backbone with exits: each stretch of blocks ends in a head, the last in the network's.

    An exit reads its own map and the finer ones that the head will read, too. So its answer has the size of
    the head's, and what was said early is shown as what was said late.

    Args:
        config: of the network. parts: its modules by their slots.
    """

    def __init__(self, config: BackboneConfig, parts: Mapping[str, nn.Module]) -> None:
        every = list(config.stretches())
        wanted = {stride for end in config.ends for stride in end.reads}
        taps = {slot: _name(stride) for stride, slot in config.taps.items() if stride in wanted}
        stages = [_Stretch({slot: parts[slot] for slot, _ in slots}, taps) for slots, _ in every]
        super().__init__(
            stages,
            [parts[end.slot] for _, end in every],
            threshold=[end.threshold for end in config.exits],
            confidence=Sureness.of(config),
        )
        widths = {slot: block.out_channels for slot, block in config.blocks}
        self.remembers = tuple(Carried(name, widths[slot], spatial=True) for slot, name in taps.items())
        self.structure = config

    @property
    def names(self) -> tuple[str, ...]:
        """The places of the exits, as space files name them."""
        return tuple(end.name for end in self.structure.exits)

    def advance(self, at: int, x: Tensor, memory: Beside) -> tuple[Tensor, Beside]:
        """Run a stretch; finer maps that a later head reads are told beside the last one."""
        x, maps = self.stages[at](x)
        return x, {**memory, **maps}

    def said(self, at: int, x: Tensor, memory: Beside) -> Tensor:
        """Return the answer (B, ...) of the head behind a stretch."""
        end = self.structure.ends[at]
        maps = read_at(end, [memory[_name(stride)] for stride in end.reads], x)
        return as_head(self.structure, self.exits[str(at)](maps))

    def part(self, slot: str) -> nn.Module:
        """Return the module of a slot."""
        for at, end in enumerate(self.structure.ends):
            if end.slot == slot:
                return self.exits[str(at)]
        return next(stretch[_key(slot)] for stretch in self.stages if _key(slot) in stretch)  # type: ignore


class _Stretch(nn.ModuleDict):
    """The slots from one head to the next, which give the last map and those that later heads read.

    Args:
        parts: by their slots, in order. taps: the names of the maps that are read, by the slot of each.
    """

    def __init__(self, parts: Mapping[str, nn.Module], taps: Mapping[str, str]) -> None:
        super().__init__({_key(slot): part for slot, part in parts.items()})
        self.taps = {_key(slot): name for slot, name in taps.items() if slot in parts}

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Map (B, C, H, W) to the last map, and the others by their names."""
        found = {}
        for key, part in self.items():
            x = part(x)
            if key in self.taps:
                found[self.taps[key]] = x
        return x, found


@dataclass(frozen=True)
class Sureness:
    """Tells how sure an exit is of each image, as the task says.

    Attributes:
        criterion: of the task. answers: what outputs answer for, as a task's `answers`.
        task: None before the data are known.
    """

    criterion: str
    answers: str
    task: TaskOfData | None = None

    @staticmethod
    def of(config: BackboneConfig) -> Sureness:
        """Return that of the exits of a network, which has some."""
        return Sureness(config.exits[0].criterion, HEADS[config.head.kind.name].answers, config.task)

    @property
    def __name__(self) -> str:
        """The name of what is compared with the threshold."""
        return self.criterion

    def __call__(self, output: Tensor) -> Tensor:
        """Map an output (B, ...) to the confidence of each image, (B,), from 0 to 1."""
        task = self.task.task if self.task else _BEFORE_DATA[self.answers]
        return task.confidence(output, self.criterion)


def left_with(config: BackboneConfig, outputs: Sequence[Tensor]) -> Tensor:
    """Return the answer (B, ...) with which each image leaves a network, of those of all its exits."""
    sure = Sureness.of(config)
    pairs = zip(outputs, config.exits, strict=False)
    return first_of(outputs, [sure(output) >= end.threshold for output, end in pairs])[0]


def read_at(end: MapExit, finer: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Return the maps that the head of an end reads, the finest first.

    Args:
        end: of a network. finer: the maps of `end.reads`. x: the map (B, C, H, W) behind which it stands.
    """
    if end.shrink > 1:
        size = [-(-side // end.shrink) for side in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bilinear", align_corners=False)
    return [*finer, x]


def as_head(config: BackboneConfig, output: Tensor) -> Tensor:
    """Return an output (B, ...) as long as that of the network's head: lists of detections are filled up."""
    detections = config.head.detections
    if detections is None or output.ndim != 3 or output.shape[-1] != DETECTION:
        return output
    height, width = config.size
    places = sum(-(-height // stride) * -(-width // stride) for stride in config.head.strides)
    return filled_up(output, min(detections.most, detections.candidates, places) - output.shape[1])


def _name(stride: int) -> str:
    return f"map{stride}"


def _key(slot: str) -> str:
    """Return a slot as a key of a `ModuleDict`, which may hold no dots."""
    return slot.replace(".", "__")
