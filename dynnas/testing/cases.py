"""The cases of the conformance suite: few, but any two words of the vocabulary meet in one of them.

Blocks, kernel ops, attentions, activations, shapes and gates are not tried in all combinations, which would
be thousands, but so that any two of them occur together (except what the language refuses), or two of their
kinds.
Everything comes from the registries and the vocabulary, so a new entry is covered by being there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product, zip_longest
from typing import Any

import torch
from torch import nn

from dynnas.language.parser import parse_space
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import STATIC, BlockConfig, ExitConfig, HeadConfig, SlotConfig, StemConfig
from dynnas.nn.config.vocabulary import CRITERIA, KINDS, NO_GATE, layer_knobs, operators, refused
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.gate import Gated
from dynnas.nn.kernels.kernel import KERNELS, Kernel
from dynnas.nn.networks.network import build
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.space.architecture import Value
from dynnas.space.knob import Knob
from dynnas.space.space import Space

# Channels in and out, and the stride: kept; wider; strided; strided and narrower.
SHAPES = {"8to8": (8, 8, 1), "8to12": (8, 12, 1), "8to8by2": (8, 8, 2), "10to8by2": (10, 8, 2)}
KEPT = "8to8"
WIDTHS_IN, WIDTHS_OUT, STRIDES = (
    sorted({shape[position] for shape in SHAPES.values()}) for position in range(3)
)
SLOT = "stage1.0"


@dataclass(frozen=True)
class Case:
    """A config to check, and the configs that its slot must have room for."""

    name: str
    config: SlotConfig
    covering: tuple[SlotConfig, ...]

    def __str__(self) -> str:
        """Return the name, for test ids."""
        return self.name


def cases(every: bool = False) -> list[Case]:
    """Return the cases: blocks as above; stem, exit and head with every activation; a large stem.

    Args:
        every: whether every op meets every block and gate, and not only each kind of them.
    """
    others = [case for activation in ACTIVATIONS for case in _other_cases(activation)]
    early = Case("stem-early", StemConfig(3, 6, 5, 4, "relu"), (StemConfig(3, 8, 7, 4, "relu"),))
    return [*map(_block_case, rows(every)), *_dense_cases(), *others, early]


def _dense_cases() -> Iterator[Case]:
    """Yield multi-scale layers: the first one, one that drops a scale, one that reopens it.

    Every attention and activation is in one of them.
    """
    scales = (("down", 1, 1.0), ("both", 2, 0.5), ("down", 0, 1.0))
    for number, (links, bottleneck, keep) in enumerate(scales):
        words = {"links": links, "bottleneck": bottleneck}
        own = (list(registry)[number :: len(scales)] for registry in (ATTENTIONS, ACTIVATIONS))
        for attention, activation in zip_longest(*own):
            layer: dict[str, Any] = {"block": "msd", "kernel": [3, 5]}
            layer |= {"attention": attention or "none", "activation": activation or "relu"}
            stages = [
                {**layer, **words, "width": [2, 4], "depth": [1, 2], "finest": finest, "keep": keep}
                for finest in (0, 2, 1)
            ]
            file = {"input": {"resolutions": 8}, "stem": {"width": [4, 6]}, "stages": stages}
            space = parse_space(json.dumps(file))
            chosen = {gene.name: gene.values[0] for gene in space.genes}
            # Deep but narrow, so that parts of both axes are taken.
            chosen |= {"stage1.depth": 2, "stage1.1.kernel": 3}
            config = space.network_config(space.architecture(chosen))
            covering = space.covering_configs(3, 5)
            for slot, block in config.blocks:
                name = f"msd-{links}-{bottleneck}-{layer['attention']}-{layer['activation']}-{slot}"
                yield Case(name, block, covering[slot])


@cache
def first_with_layers() -> frozenset[str]:
    """Return the names of cases that have a layer which no earlier case has: all layers are in one of them.

    For checks of what a network is put together from, layer by layer, such as its graph.
    """
    seen: set[object] = set()
    names = set()
    for case in cases():
        layers = _layers(case.config)
        if not layers <= seen:
            names.add(case.name)
            seen |= layers
    return frozenset(names)


def _layers(config: SlotConfig) -> set[object]:
    """Return what tells the layers of a slot apart: classes, geometries, and what a gate is around."""
    with torch.random.fork_rng(devices=[]):
        return {_layer(part) for part in build(config).modules()}


def _layer(module: nn.Module) -> object:
    if isinstance(module, Kernel):
        shape = module.shape
        return type(module), shape.depthwise, shape.groups > 1, shape.kernel > 1, shape.stride > 1
    if isinstance(module, Gated):
        return type(module), getattr(module.block, "provides", None)
    return type(module)


Pair = tuple[tuple[str, str], tuple[str, str]]
"""Two factors with their values."""


def rows(every: bool = False) -> Iterator[Mapping[str, str]]:
    """Return choices of block, op, attention, activation, shape and gate: any two that may meet do so in one.

    A block and a gate meet an op by its convolutions, router and parts, whichever op it is. So an op meets
    each kind of block and gate, and a block and a gate each kind of op; with `every` all of them meet.
    Greedy: each row starts from a pair that is missing, and takes the values with the most missing pairs.
    """
    factors = {
        "block": tuple(BLOCKS),
        "op": operators("op"),
        "attention": operators("attention"),
        "activation": operators("activation"),
        "shape": tuple(SHAPES),
        "gate": operators("gate"),
    }
    missing: dict[object, Pair] = {
        wanted: ((first, one), (second, other))
        for first, second in combinations(factors, 2)
        for one, other in product(factors[first], factors[second])
        if not _refused({first: one, second: other})
        for wanted in _wanted(((first, one), (second, other)), every)
    }
    while missing:
        row = dict(next(iter(missing.values())))
        for factor, values in factors.items():
            if factor not in row:
                allowed = [value for value in values if not _refused(row | {factor: value})]
                gains = {
                    value: sum(
                        wanted in missing
                        for pair in _pairs(row | {factor: value}, factors)
                        for wanted in _wanted(pair, every)
                    )
                    for value in allowed
                }
                row[factor] = max(allowed, key=gains.__getitem__)
        for pair in _pairs(row, factors):
            for wanted in _wanted(pair, every):
                missing.pop(wanted, None)
        yield {factor: row[factor] for factor in factors}


@cache
def _wanted(pair: Pair, every: bool) -> tuple[object, ...]:
    """Return what a pair of values is needed for: itself, or that an operator meets the other's kind."""
    (first, one), (second, other) = pair
    if every or {first, second} not in ({"block", "op"}, {"op", "gate"}):
        return (pair,)
    return (first, one, _kind(second, other)), (_kind(first, one), second, other)


def _kind(factor: str, name: str) -> object:
    """Return what tells kinds of ops, blocks or gates apart where they meet."""
    if factor == "op":
        op = KERNELS[name]
        own = (getattr(op, method) is not getattr(Kernel, method) for method in ("part", "mixed"))
        return (op.router.__func__ is not Kernel.router.__func__, *own, op.provides)  # type: ignore[attr-defined]
    if factor == "block":
        return BLOCKS[name].provides, BLOCKS[name].reshapes
    return NO_GATE if name == NO_GATE else (GATES[name].requires, GATES[name].keeps_shape)


def _pairs(row: Mapping[str, str], order: Mapping[str, object]) -> Iterator[Pair]:
    return combinations(((factor, row[factor]) for factor in order if factor in row), 2)


def _refused(row: Mapping[str, str]) -> bool:
    gate = row.get("gate", NO_GATE)
    if gate != NO_GATE and GATES[gate].keeps_shape and row.get("shape") not in (None, KEPT):
        return True
    kinds = [kind for kind in KINDS if kind in row]
    return any(refused(one, row[one], other, row[other]) for one, other in combinations(kinds, 2))


def _block_case(row: Mapping[str, str]) -> Case:
    """Return the smallest block of a slot that can also be larger, and of every other op."""
    space = _space(row["block"], row["attention"], row["activation"])
    before, after, stride = SHAPES[row["shape"]]
    chosen: dict[str, Value] = {gene.name: gene.values[0] for gene in space.genes}
    chosen |= {"stem.width": before, "stage1.width": after, "stage1.stride": stride, f"{SLOT}.op": row["op"]}
    (_, config), *_ = space.network_config(space.architecture(chosen)).blocks
    covering = _room(space.covering_configs(3, 5)[SLOT], row["op"])
    if row["gate"] != NO_GATE:
        assert isinstance(config, BlockConfig)
        config = _with_gate(config, row["gate"], target=0.5, step=0)
        # What is not gated there shares the block's tensors alone: one of them will do.
        covering = covering[:1] + tuple(
            _gated(other, row["gate"])
            for other in covering
            if isinstance(other, BlockConfig) and not refused("op", other.op.name, "gate", row["gate"])
        )
    return Case("-".join(row.values()), config, covering)


def _room(covering: tuple[SlotConfig, ...], op: str) -> tuple[SlotConfig, ...]:
    """Return all covering configs of the op and of `static`, and the first, the largest, of the op after it.

    What these share with the op by name must fit; their own tensors are no matter of this case. Every op
    meets the next in each block, so that a row costs no more where there are more ops.
    """
    names = list(dict.fromkeys(config.op.name for config in covering if isinstance(config, BlockConfig)))
    after = names[(names.index(op) + 1) % len(names)] if op in names else ""
    whole, others = [], []
    for config in covering:
        name = config.op.name if isinstance(config, BlockConfig) else op
        if name in (op, STATIC.name):
            whole.append(config)
        elif name == after:
            others.append(config)
    return (*whole, *others[:1])


def _gated(config: SlotConfig, gate: str) -> SlotConfig:
    """Return a large config with a gate; of one that can be skipped, the output is as wide as the input."""
    assert isinstance(config, BlockConfig)
    if GATES[gate].keeps_shape:
        config = replace(config, in_channels=config.out_channels, stride=1)
    return _with_gate(config, gate, target=0.75, step=1)


def _with_gate(config: BlockConfig, gate: str, target: float, step: int) -> BlockConfig:
    """Return the choice of a gate with its own numbers at their defaults, or `step` more."""
    own = {knob.name: int(knob.default or 0) + step for knob in GATES[gate].knobs}
    return replace(config, gate=Choice.of(gate, target=target, **own))


@cache
def _space(block: str, attention: str, activation: str) -> Space:
    """Return a stage of such blocks with everything else open, so that what ops share by name must fit."""
    words = {"block": block, "attention": attention, "activation": activation, "gate": "none"}
    ops = [op for op in KERNELS if not refused("block", block, "op", op)]
    knobs = {
        knob.name: _two(knob)
        for knob in layer_knobs()
        if knob.ordered and _applies(knob, words | {"op": ops})
    }
    stage = {**words, **knobs, "op": ops, "width": WIDTHS_OUT, "stride": STRIDES}
    return parse_space(
        json.dumps({"input": {"resolutions": 8}, "stem": {"width": WIDTHS_IN}, "stages": [stage]})
    )


def _applies(knob: Knob, siblings: Mapping[str, str | list[str]]) -> bool:
    if knob.when is None:
        return True
    found = siblings[knob.when.knob]
    return any(map(knob.when.holds_for, [found] if isinstance(found, str) else found))


def _two(knob: Knob) -> list[Value]:
    """Return a number knob's default and the next larger value that is allowed."""
    assert isinstance(knob.default, int | float)
    steps = (1, 2) if knob.rule.kind is int else (knob.default / 2,)
    for step in steps:
        try:
            return [knob.default, knob.rule.accept(knob.default + step)]
        except ValueError:
            continue
    return [knob.default]


def _other_cases(activation: str) -> Iterator[Case]:
    small_stem, large_stem = StemConfig(3, 6, 3, 2, activation), StemConfig(3, 8, 7, 2, activation)
    exits = [
        (ExitConfig(8, 6, activation, 5, criterion), ExitConfig(10, 9, activation, 5, criterion))
        for criterion in CRITERIA
    ]
    small_head, large_head = HeadConfig(8, 6, activation, 0.1, 5), HeadConfig(10, 9, activation, 0.1, 5)
    yield Case(f"stem-{activation}", small_stem, (large_stem,))
    for small_exit, large_exit in exits:
        others = tuple(large for _, large in exits if large != large_exit)
        yield Case(f"exit-{activation}-{small_exit.criterion}", small_exit, (large_exit, *others))
    yield Case(f"head-{activation}", small_head, (large_head,))
