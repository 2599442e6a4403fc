"""The genes of a network space, made from the knobs that a space file gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from dynnas.nn.config.names import (
    CHOOSE,
    CHOOSE_TARGET,
    EXITS_AT,
    FIXED,
    GLANCE,
    GLANCE_SIZE,
    GLANCE_THRESHOLD,
    NO_EXITS,
    PER_IMAGE,
)
from dynnas.nn.config.template import NetworkTemplate, read_exits, spell_exits, spell_glance, spell_sizes
from dynnas.nn.config.vocabulary import (
    DENSE,
    POLICY,
    STAGE,
    exit_knobs,
    head_kind,
    head_knobs,
    layer_knobs,
    map_head_knobs,
    stem_knobs,
)
from dynnas.space.architecture import Value
from dynnas.space.gene import Condition, Gene, prune
from dynnas.space.knob import Knob, Knobs


@dataclass(frozen=True)
class StageKnobs:
    """The knobs that the layers of a stage share, multi-scale layers too, and those of each layer."""

    shared: Knobs
    layers: tuple[Knobs, ...]


@dataclass(frozen=True)
class ExitKnobs:
    """The positions where exits may stand (in the order of depth), how many there may be, and their knobs."""

    positions: tuple[str, ...]
    counts: tuple[Value, ...]
    knobs: Knobs


@dataclass(frozen=True)
class Blueprint:
    """A network space as its file describes it, complete and checked."""

    channels: int | None
    classes: int | None
    resolutions: tuple[Value, ...]
    choice: Knobs
    stem: Knobs
    stages: tuple[StageKnobs, ...]
    head: Knobs
    exits: ExitKnobs | None
    policy: Knobs | None

    @property
    def has_backbone(self) -> bool:
        """Return whether networks end in a head that reads several maps."""
        return "kind" in self.head

    @property
    def takes_rectangles(self) -> bool:
        """Return whether resolutions are height and width."""
        return any(isinstance(size, tuple) for size in self.resolutions)

    @property
    def largest(self) -> tuple[int, int]:
        """Return height and width of the largest images."""
        height, width = _rectangle(self.resolutions[-1])
        return height, width

    def template(self) -> NetworkTemplate:
        """Return the template: everything that the genes leave open."""
        positions = self.exits.positions if self.exits else ()
        return NetworkTemplate(len(self.stages), positions, self.channels, self.classes)

    def genes(self) -> tuple[Gene, ...]:
        """Return every choice with the condition under which it applies, parents before children."""
        if self.has_backbone:
            sizes = tuple(map(_rectangle, self.resolutions))
            genes = [Gene("resolution", sizes, ordered=True)]
        else:
            genes = list(_resolution(self.resolutions, self.choice))
        genes += _section("stem", stem_knobs(), self.stem)
        for number, stage in enumerate(self.stages, start=1):
            genes += _stage(f"stage{number}", stage)
        if self.policy:
            genes += _section("policy", POLICY, self.policy)
        ends = (head_kind(), *map_head_knobs()) if "kind" in self.head else head_knobs()
        genes += _section("head", ends, self.head)
        if self.exits:
            genes += _exits(self.exits, classifiers=not self.has_backbone)
        # One decision for the whole network leaves nothing to others: what they save would depend on it.
        fixed = ((CHOOSE, (FIXED,)),) if genes[0].name == CHOOSE else ()
        genes = [
            replace(gene, condition=fixed + gene.condition) if _decides(gene) else gene for gene in genes
        ]
        return prune(genes)


def _rectangle(size: Value) -> tuple[int, int]:
    """Return height and width; a number stands for a square."""
    return size if isinstance(size, tuple) else (int(size), int(size))


def _decides(gene: Gene) -> bool:
    """Return whether a gene decides what images may leave out, in blocks or after exits.

    Other genes depend on it.
    """
    return gene.name.endswith(".gate") or gene.name == EXITS_AT


def _resolution(resolutions: tuple[Value, ...], choice: Knobs) -> Iterator[Gene]:
    # Most spaces choose for no image, and their architectures do not speak of it.
    if choice["choose"] in ((), (FIXED,)):
        yield Gene("resolution", resolutions, ordered=True)
        return
    spelled = {PER_IMAGE: spell_sizes(resolutions), GLANCE: spell_glance(resolutions), FIXED: FIXED}
    yield Gene(CHOOSE, tuple(spelled[str(knob)] for knob in choice["choose"]))
    for name, values, knob in (
        (CHOOSE_TARGET, choice["target"], PER_IMAGE),
        (GLANCE_SIZE, resolutions[:-1], GLANCE),
        (GLANCE_THRESHOLD, choice["thresholds"], GLANCE),
        ("resolution", resolutions, FIXED),
    ):
        yield Gene(name, values, ((CHOOSE, (spelled[knob],)),), ordered=True)


def _section(prefix: str, table: Iterable[Knob], values: Knobs, condition: Condition = ()) -> Iterator[Gene]:
    for knob in table:
        own = condition
        if knob.when:
            holding = tuple(value for value in values[knob.when.knob] if knob.when.holds_for(value))
            own = (*condition, (f"{prefix}.{knob.when.knob}", holding))
        if values[knob.name]:
            yield Gene(f"{prefix}.{knob.name}", values[knob.name], own, knob.ordered)


def _stage(prefix: str, stage: StageKnobs) -> Iterator[Gene]:
    yield from _section(prefix, STAGE, stage.shared)
    if "scales" in stage.shared:
        yield from _section(prefix, DENSE, stage.shared)
    for index, layer in enumerate(stage.layers):
        deep_enough = tuple(depth for depth in stage.shared["depth"] if int(depth) > index)
        # Most spaces have no gates, and their architectures do not speak of them; nor of what they look at,
        # which is younger than studies, where it is the block's input.
        for knob, usual in (("gate", "none"), ("gate_reads", "block")):
            layer = {**layer, knob: () if layer[knob] == (usual,) else layer[knob]}
        yield from _section(f"{prefix}.{index}", layer_knobs(), layer, ((f"{prefix}.depth", deep_enough),))


def _exits(exits: ExitKnobs, classifiers: bool) -> Iterator[Gene]:
    places = [
        spell_exits(chosen) for count in exits.counts for chosen in combinations(exits.positions, int(count))
    ]
    yield Gene(EXITS_AT, tuple(places))
    for position in exits.positions:
        using = tuple(place for place in places if position in read_exits(place))
        yield Gene(
            f"exits.{position}.threshold", exits.knobs["thresholds"], ((EXITS_AT, using),), ordered=True
        )
    some = tuple(place for place in places if place != NO_EXITS)
    for knob in exit_knobs():
        # The criterion is younger than studies: where a file has but the old one, their keys hold.
        old = knob.name == "criterion" and exits.knobs[knob.name] == (knob.default,)
        no_use = knob.name == "activation" and not classifiers
        if knob.name != "thresholds" and not old and not no_use:
            yield Gene(f"exits.{knob.name}", exits.knobs[knob.name], ((EXITS_AT, some),), knob.ordered)
