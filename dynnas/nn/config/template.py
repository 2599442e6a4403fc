"""The template that turns gene values into the network that they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from dynnas.nn.config.names import (
    CHOOSE,
    CHOOSE_TARGET,
    EXITS_AT,
    FIXED,
    GLANCE,
    GLANCE_SIZE,
    GLANCE_THRESHOLD,
    NO_EXITS,
)
from dynnas.nn.config.network import (
    FOCUS_SLOT,
    GLANCE_EXIT,
    RECURRENT_UNITS,
    RESOLUTION_SLOT,
    BlockConfig,
    ExitConfig,
    ExitPlace,
    FocusConfig,
    GlanceConfig,
    HeadConfig,
    NetworkConfig,
    PolicyConfig,
    RecurrentConfig,
    ResolutionConfig,
    SlotConfig,
    StemConfig,
)
from dynnas.nn.config.scales import Dense, Scales
from dynnas.nn.config.vocabulary import block_facts, layer_choices
from dynnas.space.architecture import Value
from dynnas.space.gene import Gene

Values = Mapping[str, Value]

DEFAULT_CHANNELS, DEFAULT_CLASSES = 3, 10


def spell_exits(positions: Sequence[str]) -> str:
    """Return the value of the gene `exits.at` for a set of positions in the order of depth."""
    return "+".join(positions) or NO_EXITS


def read_exits(value: Value) -> tuple[str, ...]:
    """Return the positions that `spell_exits` spelled."""
    return () if value == NO_EXITS else tuple(str(value).split("+"))


def spell_sizes(resolutions: Sequence[Value]) -> str:
    """Return the value of the gene `resolution.choose` where each image has one of these."""
    return "+".join(map(str, resolutions))


def spell_glance(resolutions: Sequence[Value]) -> str:
    """Return the value of the gene `resolution.choose` for a glance before the largest resolution."""
    return f"{GLANCE} of {resolutions[-1]}"


def _glance(values: Values, channels: int) -> GlanceConfig | None:
    """Return the glance; None for a network that looks once."""
    chosen = str(values.get(CHOOSE, FIXED))
    if not chosen.startswith(GLANCE):
        return None
    return GlanceConfig(channels, int(chosen.rpartition(" ")[2]), int(values[GLANCE_SIZE]))


def _glance_exit(values: Values, blocks: Sequence[tuple[str, BlockConfig]], classes: int) -> ExitPlace:
    """Return the exit after the glance: it stands behind the last block and is as wide as the head."""
    slot, last = blocks[-1]
    config = _exit_like_head(values, last.read_channels, classes)
    return ExitPlace(GLANCE_EXIT, slot, config, float(values[GLANCE_THRESHOLD]))


def _exit_like_head(values: Values, in_channels: int, classes: int) -> ExitConfig:
    activation = str(values.get("head.activation", "relu"))
    return ExitConfig(in_channels, int(values["head.width"]), activation, classes)


def _choice(values: Values, channels: int) -> ResolutionConfig | None:
    """Return the predictor of the resolution; None where the resolution is fixed."""
    if values.get(CHOOSE, FIXED) == FIXED or str(values[CHOOSE]).startswith(GLANCE):
        return None
    sizes = tuple(map(int, str(values[CHOOSE]).split("+")))
    return ResolutionConfig(channels, sizes, float(values[CHOOSE_TARGET]))


@dataclass(frozen=True)
class NetworkTemplate:
    """The frame of a network whose rest the genes choose: stages, and where exits may stand, by depth.

    `channels` and `classes` are those of the space file, or None where the data decides.
    """

    stages: int
    exits: tuple[str, ...] = ()
    channels: int | None = None
    classes: int | None = None

    def network_config(
        self, values: Values, channels: int | None = None, classes: int | None = None
    ) -> NetworkConfig:
        """Return the network of an architecture's values."""
        channels = channels or self.channels or DEFAULT_CHANNELS
        classes = classes or self.classes or DEFAULT_CLASSES
        choice, glance = _choice(values, channels), _glance(values, channels)
        blocks = self.blocks(values)
        read = {slot: block.read_channels for slot, block in blocks}
        seen = {block.gate_reads for _, block in blocks}
        exits = tuple(
            _exit_place(values, position, classes, read)
            for position in read_exits(values.get(EXITS_AT, NO_EXITS))
        )
        if glance:
            exits = (_glance_exit(values, blocks, classes),)
        looks = 2 if glance else 1
        height, width = _size(values, choice, glance)
        return NetworkConfig(
            channels=channels,
            classes=classes,
            resolution=height,
            width=None if width == height else width,
            stem=stem_of(values, channels),
            blocks=blocks,
            exits=exits,
            head=classifier_of(values, looks * blocks[-1][1].read_channels, classes),
            policy=_policy(values, channels, classes) if "policy" in seen else None,
            recurrent=RecurrentConfig(channels, RECURRENT_UNITS) if "recurrent" in seen else None,
            choice=choice,
            glance=glance,
        )

    def blocks(self, values: Values) -> tuple[tuple[str, BlockConfig], ...]:
        """Return every block of an architecture with its slot, in order."""
        blocks: list[tuple[str, BlockConfig]] = []
        width, before = int(values["stem.width"]), None
        for stage in range(1, self.stages + 1):
            for layer in range(int(values[f"stage{stage}.depth"])):
                block = _block(values, stage, layer, width, before)
                blocks.append((f"stage{stage}.{layer}", block))
                width, before = block.out_channels, block.scales
        return tuple(blocks)

    def covering_configs(
        self, genes: Sequence[Gene], channels: int, classes: int
    ) -> dict[str, tuple[SlotConfig, ...]]:
        """Return the largest configs of each slot that any architecture has (see `Space`)."""
        largest = {gene.name: gene.values[-1] for gene in genes}
        covering, read = self.covering_body(genes, channels, classes)
        for position in self.exits:
            if f"exits.{position}.threshold" in largest:  # else no architecture has this exit
                channels_there = read[slot_before(largest, position)]
                exit_ = partial(_exit, in_channels=channels_there, classes=classes)
                covering[f"exits.{position}"] = _cover("exits", genes, largest, exit_)
        covering["head"] = covering_classifier(genes, list(read.values())[-1], classes)
        for chosen in (value for gene in genes if gene.name == CHOOSE for value in gene.values):
            if choice := _choice({**largest, CHOOSE: chosen}, channels):
                covering[RESOLUTION_SLOT] = (choice,)
            if str(chosen).startswith(GLANCE):
                covering |= _covering_glance(covering, genes, largest, list(read.values())[-1], classes)
        return covering

    def covering_body(
        self, genes: Sequence[Gene], channels: int, classes: int
    ) -> tuple[dict[str, tuple[SlotConfig, ...]], dict[str, int]]:
        """Return the same of the slots before exits and head, and how many channels each block gives."""
        largest = {gene.name: gene.values[-1] for gene in genes}
        covering: dict[str, tuple[SlotConfig, ...]] = {
            "stem": _cover("stem", genes, largest, partial(stem_of, channels=channels))
        }
        if "policy.width" in largest and any("policy" in gene.values for gene in genes if _is_reads(gene)):
            covering["policy"] = (_policy(largest, channels, classes),)
        if any("recurrent" in gene.values for gene in genes if _is_reads(gene)):
            covering["recurrent"] = (RecurrentConfig(channels, RECURRENT_UNITS),)
        width, before = int(largest["stem.width"]), None
        read: dict[str, int] = {}
        for stage in range(1, self.stages + 1):
            for layer in range(int(largest[f"stage{stage}.depth"])):
                slot = f"stage{stage}.{layer}"
                block = partial(_block, stage=stage, layer=layer, in_channels=width, previous=before)
                covering[slot] = _cover(slot, genes, largest, block)
                if layer == 0:
                    covering[slot] += _reshaping(
                        covering[slot], stage, {gene.name: gene.values for gene in genes}
                    )
                first = covering[slot][0]
                assert isinstance(first, BlockConfig)
                width, before, read[slot] = first.out_channels, first.scales, first.read_channels
        return covering, read


def covering_classifier(genes: Sequence[Gene], in_channels: int, classes: int) -> tuple[SlotConfig, ...]:
    """Return the largest configs of the final classifier, which reads `in_channels` channels."""
    largest = {gene.name: gene.values[-1] for gene in genes}
    head = partial(classifier_of, in_channels=in_channels, classes=classes)
    found = _cover("head", genes, largest, head)
    if any(gene.name == "head.width" and 0 in gene.values[:-1] for gene in genes):
        # Without its convolution, the head's classifier reads the last block's channels.
        found += _cover("head", genes, {**largest, "head.width": 0}, head)
    return found


def _size(values: Values, choice: ResolutionConfig | None, glance: GlanceConfig | None) -> tuple[int, int]:
    """Return height and width of the images that a network takes."""
    if choice or glance:
        side = choice.sizes[-1] if choice else glance.given  # type: ignore[union-attr]
        return side, side
    size = values["resolution"]
    return (int(size[0]), int(size[1])) if isinstance(size, tuple) else (int(size), int(size))


def _covering_glance(
    covering: Mapping[str, tuple[SlotConfig, ...]],
    genes: Sequence[Gene],
    largest: Values,
    channels: int,
    classes: int,
) -> dict[str, tuple[SlotConfig, ...]]:
    """Yield the slots that only networks with a glance have; classifiers read `channels` channels."""
    looking = {
        f"{FOCUS_SLOT}.{slot}": c for slot, c in covering.items() if slot.startswith(("stem", "stage"))
    }
    found: dict[str, tuple[SlotConfig, ...]] = {**looking, FOCUS_SLOT: (FocusConfig(channels),)}
    exit_ = partial(_exit_like_head, in_channels=channels, classes=classes)
    head = partial(classifier_of, in_channels=2 * channels, classes=classes)
    for slot, make in ((f"exits.{GLANCE_EXIT}", exit_), (f"{FOCUS_SLOT}.head", head)):
        found[slot] = _cover("head", genes, largest, make)
        if any(gene.name == "head.width" and 0 in gene.values[:-1] for gene in genes):
            found[slot] += _cover("head", genes, {**largest, "head.width": 0}, make)
    return found


def _cover(
    section: str, genes: Sequence[Gene], largest: Values, config: Callable[[Values], SlotConfig]
) -> tuple[SlotConfig, ...]:
    """Return a section's distinct configs: every value of unordered genes, ordered ones as in `largest`.

    A gate has the same weights whatever kernels and activations it decides on: each is there once a block.
    """
    own = [gene for gene in genes if gene.name.startswith(f"{section}.")]
    gates = [gene for gene in own if gene.name == f"{section}.gate" or _is_reads(gene)]
    blocks = [gene for gene in own if gene.name == f"{section}.block"]
    kinds = [gene for gene in own if not gene.ordered and gene.name != EXITS_AT and gene not in gates]
    configs: dict[SlotConfig, None] = {}  # an ordered set
    for choice in (*_combinations(kinds), *(_combinations([*blocks, *gates]) if gates else ())):
        values = {**largest, **choice}
        for gene in own:
            if not gene.is_active(values):
                del values[gene.name]
        configs[config(values)] = None
    return tuple(configs)


def _combinations(genes: Sequence[Gene]) -> Iterator[Values]:
    """Yield every choice of all of these genes."""
    for values in product(*(gene.values for gene in genes)):
        yield dict(zip((gene.name for gene in genes), values, strict=True))


def _reshaping(
    largest: Sequence[SlotConfig], stage: int, values: Mapping[str, tuple[Value, ...]]
) -> tuple[SlotConfig, ...]:
    """Yield more configs for a stage's first block, if it has other weights where it changes the shape.

    Which weights these are, and how large, depends on how the widths before and after it compare: so beside
    the largest of both, each is taken with the smallest of the other, and the largest that can be equal.
    """
    inputs = [int(width) for width in values[f"stage{stage - 1}.width" if stage > 1 else "stem.width"]]
    outputs = [int(width) for width in values[f"stage{stage}.width"]]
    strides = [int(stride) for stride in values[f"stage{stage}.stride"]]
    shapes = [
        (inputs[0], outputs[-1], strides[-1]),
        (inputs[-1], outputs[0], strides[-1]),
        (inputs[-1], outputs[-1], strides[0]),
        *((width, width, strides[0]) for width in sorted({*inputs} & {*outputs})[-1:]),
    ]
    more = {
        replace(config, in_channels=before, out_channels=after, stride=stride): None
        for config in largest
        if isinstance(config, BlockConfig) and block_facts(config.block.name).reshapes
        for before, after, stride in shapes
    }
    return tuple(config for config in more if config not in largest)


def _is_reads(gene: Gene) -> bool:
    return gene.name.endswith(".gate_reads")


def _policy(values: Values, channels: int, classes: int) -> PolicyConfig:
    return PolicyConfig(channels, int(values["policy.width"]), classes)


def stem_of(values: Values, channels: int) -> StemConfig:
    """Return the first convolution, of images of `channels` channels."""
    return StemConfig(
        in_channels=channels,
        out_channels=int(values["stem.width"]),
        kernel=int(values["stem.kernel"]),
        stride=int(values["stem.stride"]),
        activation=str(values["stem.activation"]),
    )


def _block(values: Values, stage: int, layer: int, in_channels: int, previous: Scales | None) -> BlockConfig:
    """Return a block after one that passes on `in_channels` channels, of the scales of `previous` if any."""
    slot = f"stage{stage}.{layer}"
    scales = _scales(values, stage, layer, in_channels, previous)
    stride = int(values[f"stage{stage}.stride"]) if layer == 0 else 1
    choices = layer_choices(lambda name: values.get(f"{slot}.{name}"))
    if choices["gate"].get("reads") == "policy":
        choices["gate"] = choices["gate"].replaced(policy_width=int(values["policy.width"]))
    return BlockConfig(
        in_channels=in_channels,
        out_channels=scales.out_channels if scales else int(values[f"stage{stage}.width"]),
        stride=scales.stride if scales else stride,
        kernel=int(values[f"{slot}.kernel"]),
        scales=scales,
        **choices,
    )


def _scales(
    values: Values, stage: int, layer: int, in_channels: int, previous: Scales | None
) -> Scales | None:
    """Return the scales of a multi-scale layer; None for any other block."""
    if f"stage{stage}.scales" not in values:
        return None
    dense = Dense(
        scales=int(values[f"stage{stage}.scales"]),
        growth=int(values[f"stage{stage}.width"]),
        finest=int(values[f"stage{stage}.finest"]),
        links=str(values[f"stage{stage}.links"]),
        bottleneck=int(values[f"stage{stage}.bottleneck"]),
        keep=float(values[f"stage{stage}.keep"]),
    )
    return dense.layer(layer, in_channels, previous)


def slot_before(values: Values, position: str) -> str:
    """Return the block behind which an exit stands."""
    stage, _, layer = position.partition(".")
    return position if layer else f"{stage}.{int(values[f'{stage}.depth']) - 1}"


def _exit_place(values: Values, position: str, classes: int, read: Mapping[str, int]) -> ExitPlace:
    """Return an exit; `read` gives for every block how many channels a classifier behind it reads."""
    after = slot_before(values, position)
    return ExitPlace(
        name=position,
        after=after,
        config=_exit(values, read[after], classes),
        threshold=float(values[f"exits.{position}.threshold"]),
    )


def _exit(values: Values, in_channels: int, classes: int) -> ExitConfig:
    return ExitConfig(
        in_channels=in_channels,
        width=int(values["exits.width"]),
        activation=str(values["exits.activation"]),
        classes=classes,
        criterion=str(values.get("exits.criterion", "confidence")),
    )


def classifier_of(values: Values, in_channels: int, classes: int) -> HeadConfig:
    """Return the final classifier, which reads `in_channels` channels."""
    return HeadConfig(
        in_channels=in_channels,
        width=int(values["head.width"]),
        activation=str(values.get("head.activation", "relu")),
        dropout=float(values["head.dropout"]),
        classes=classes,
    )
