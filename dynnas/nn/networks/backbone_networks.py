"""The networks of a space file whose head reads several maps, as what a supernet is made for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from torch import Tensor, nn

from dynnas.nn.config.backbone import BackboneConfig, MapExit, MapHeadConfig, TaskOfData, taps_of
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.names import EXITS_AT, NO_EXITS
from dynnas.nn.config.network import BlockConfig, StemConfig
from dynnas.nn.config.template import (
    DEFAULT_CHANNELS,
    DEFAULT_CLASSES,
    NetworkTemplate,
    read_exits,
    slot_before,
    stem_of,
)
from dynnas.nn.config.vocabulary import OF_TASK
from dynnas.nn.exits.map_exits import left_with
from dynnas.nn.heads.neck import FINEST, NECK
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.backbone import (
    BackboneNetwork,
    Call,
    PartConfig,
    build_part,
    parts_of,
    run_backbone,
)
from dynnas.nn.networks.network import shared_names
from dynnas.nn.registry import HEADS
from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.tasks.detections import Detections

RESOLUTION, KIND = "resolution", "head.kind"


@dataclass(frozen=True)
class BackboneNetworks:
    """Makes the networks of a space file, part by part; it is the `model` of the file's space.

    Attributes:
        template: of stem and stages. genes: what may be chosen.
        data_channels, data_outputs, data_size: channels, outputs of the task, and height and width, as the
            data say; None before they are known, where the file's or usual ones stand for them.
        detections: how outputs become boxes, as the task says.
        task: that builds the head of the kind `task` and says how sure exits are, once the data are known.
        experts: "shared", or "separate" for tensors of its own for each op of a block.
    """

    template: NetworkTemplate
    genes: tuple[Gene, ...]
    data_channels: int | None = None
    data_outputs: int | None = None
    data_size: tuple[int, int] | None = None
    detections: Detections | None = None
    task: TaskOfData | None = None
    experts: str = "shared"

    @property
    def __name__(self) -> str:
        """The name of what it makes."""
        return "BackboneNetwork"

    @property
    def identity(self) -> str:
        """The name by which it is told from others: what the file says beside the genes."""
        return f"backbone {self.template}"

    @property
    def channels(self) -> int:
        """Return the channels of the images."""
        return self.data_channels or self.template.channels or DEFAULT_CHANNELS

    @property
    def classes(self) -> int:
        """Return how many numbers are given for an image, or for each place."""
        return self.data_outputs or self.template.classes or DEFAULT_CLASSES

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of heads."""
        return next(gene.values for gene in self.genes if gene.name == KIND)

    @property
    def answers(self) -> str:
        """Return what its networks answer for, as a task's `answers`; empty for what any task asks for."""
        told = [str(HEADS[kind].answers) for kind in self.kinds]
        return next(filter(None, told), "")

    def of_data(self, shape: tuple[int, int, int], task: Any) -> BackboneNetworks:
        """Return the same for images of `shape` (channels, height, width) and the outputs of a task."""
        return replace(
            self,
            data_channels=shape[0],
            data_outputs=task.outputs,
            data_size=shape[1:],
            detections=getattr(task, "detections", None),
            task=TaskOfData.of(task) if OF_TASK in self.kinds or self.template.exits else None,
        )

    def with_genes(self, genes: tuple[Gene, ...]) -> BackboneNetworks:
        """Return the same for fewer choices."""
        return replace(self, genes=genes)

    def config(self, architecture: Mapping[str, Value]) -> BackboneConfig:
        """Return the concrete network of an architecture's values."""
        stem, blocks = stem_of(architecture, self.channels), self.template.blocks(architecture)
        size = self.size(architecture)
        head = self._map_head(architecture, stem, blocks, size)
        exits = tuple(
            self._exit(architecture, stem, blocks, head, position)
            for position in read_exits(architecture.get(EXITS_AT, NO_EXITS))
        )
        task = self.task if exits else None
        return BackboneConfig(self.channels, size, stem, blocks, head, exits, task)

    def _exit(
        self,
        values: Mapping[str, Value],
        stem: StemConfig,
        blocks: tuple[tuple[str, BlockConfig], ...],
        head: MapHeadConfig,
        position: str,
    ) -> MapExit:
        """Return the exit at a position: a small head that answers on a map of the size of the head's."""
        after = slot_before(values, position)
        place = [slot for slot, _ in blocks].index(after)
        before = blocks[: place + 1]
        taps, channels = taps_of(stem, before), {slot: block.out_channels for slot, block in before}
        finest = min(head.strides)
        read = [stride for stride in taps if stride >= finest]
        shrink = 1 if read else finest // max(taps)
        config = replace(
            head,
            kind=_exit_kind(head.kind.name, int(values["exits.width"])),
            in_channels=tuple(channels[taps[stride]] for stride in read) or (channels[after],),
            strides=tuple(read) or (finest,),
        )
        criterion = str(values.get("exits.criterion", "confidence"))
        return MapExit(
            position, after, config, shrink, float(values[f"exits.{position}.threshold"]), criterion
        )

    def _map_head(
        self,
        values: Mapping[str, Value],
        stem: StemConfig,
        blocks: tuple[tuple[str, BlockConfig], ...],
        size: tuple[int, int],
    ) -> MapHeadConfig:
        widths = {slot: block.out_channels for slot, block in blocks}
        taps = {stride: widths[slot] for stride, slot in taps_of(stem, blocks).items()}
        kind = _kind(str(values[KIND]), values)
        finest = int(kind.get("finest", 1))
        read = [stride for stride in taps if stride >= finest] or [max(taps)]
        given = self.data_size or size
        return MapHeadConfig(
            kind,
            tuple(taps[stride] for stride in read),
            tuple(read),
            self.classes,
            (given[1] / size[1], given[0] / size[0]),
            self.detections,
            self.task if kind.name == OF_TASK else None,
        )

    def size(self, architecture: Mapping[str, Value]) -> tuple[int, int]:
        """Return height and width of the images that a network takes."""
        height, width = architecture[RESOLUTION]
        return int(height), int(width)

    def image_shape(
        self, architecture: Mapping[str, Value], shape: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """Return the shape of the images that a network takes, of data whose images are of `shape`."""
        return (shape[0], *self.size(architecture))

    def __call__(
        self, architecture: Mapping[str, Value] | None = None, /, **values: Value
    ) -> BackboneNetwork:
        """Build the network of these values."""
        return BackboneNetwork(self.config({**(architecture or {}), **values}))

    def covering(self) -> Mapping[str, Sequence[PartConfig]]:
        """Return for each slot the largest configs that it can take."""
        body, _ = self.template.covering_body(self.genes, self.channels, self.classes)
        ends: dict[str, list[PartConfig]] = {}
        for slot, config in self._covering_ends():
            ends.setdefault(slot, []).append(config)
        return {**body, **{slot: tuple(dict.fromkeys(configs)) for slot, configs in ends.items()}}

    def _covering_ends(self) -> Iterator[tuple[str, MapHeadConfig]]:
        """Yield the heads of exits and networks: every kind with its numbers at their largest.

        It is of every stride that maps may have.
        """
        largest = {gene.name: gene.values[-1] for gene in self.genes}
        strided = [gene for gene in self.genes if gene.name.endswith(".stride")]
        finest = [gene for gene in self.genes if gene.name == "head.finest"]
        positions = [each for each in self.template.exits if f"exits.{each}.threshold" in largest]
        for chosen in product(*(gene.values for gene in (*strided, *finest))):
            values = {**largest, **dict(zip((g.name for g in (*strided, *finest)), chosen, strict=True))}
            stem, blocks = stem_of(values, self.channels), self.template.blocks(values)
            for kind in self.kinds:
                head = self._map_head({**values, KIND: kind}, stem, blocks, self.size(values))
                yield "head", head
                for position in positions:
                    end = self._exit(values, stem, blocks, head, position)
                    yield end.slot, end.config

    def part(self, config: PartConfig, /) -> nn.Module:
        """Build a slot."""
        return build_part(config)

    def shared_name(self, config: PartConfig, name: str, /) -> str:
        """Return the name under which a tensor is shared: by kind of block and of head."""
        if isinstance(config, MapHeadConfig):
            return f"{config.kind.name}.{name}"
        return shared_names(self.experts)(config, name)

    def run(
        self, call: Call, architecture: Architecture, /, x: Tensor, *, training: bool, **options: Any
    ) -> Tensor | tuple[Tensor, ...]:
        """Run a network on images (B, channels, H, W) of any size, which are resized to its own.

        In training it gives what every exit says in order, then what the head says.
        """
        config = self.config(architecture)
        outputs = run_backbone(config, call, resize(x, config.size))
        if training or not config.exits:
            return outputs if config.exits else outputs[0]
        return left_with(config, outputs)

    def extract(
        self, extracted: Callable[[str, Any], nn.Module], architecture: Architecture, /, **options: Any
    ) -> BackboneNetwork:
        """Make a network of the parts that `extracted` gives."""
        config = self.config(architecture)
        return BackboneNetwork(config, {slot: extracted(slot, each) for slot, each in parts_of(config)})


def _exit_kind(head: str, width: int) -> Choice:
    """Return the head of an exit in a network with that head: the smallest of the same kind of answer."""
    name, small = next((name, each) for name, each in HEADS.items() if each.answers == HEADS[head].answers)
    return Choice.of(
        name, **{knob.name: width if knob == NECK else knob.default for knob in small.knobs if knob != FINEST}
    )


def _kind(name: str, values: Mapping[str, Value]) -> Choice:
    """Return a head of that kind, with the values of its knobs."""
    return Choice.of(
        name, **{knob.name: values.get(f"head.{knob.name}", knob.default) for knob in HEADS[name].knobs}
    )
