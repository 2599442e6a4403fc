"""The vocabulary of the space language: every knob, its values, its default, and where it applies.

Parser, genes and JSON Schema are made from these tables. What concerns operators is computed from what the
registered classes state of themselves (`dynnas.nn.facts`), when it is asked for: a new operator is a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from dynnas.errors import SpaceError
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.names import FIXED, GLANCE, PER_IMAGE
from dynnas.nn.facts import Kind, Operator, refusal
from dynnas.nn.gates.family import GATES
from dynnas.nn.operators import OPERATORS
from dynnas.nn.registry import BLOCKS, HEADS, Block
from dynnas.space.architecture import Value
from dynnas.space.knob import Knob, When, real, whole
from dynnas.space.rule import Rule

DENSE_BLOCK = "msd"  # fills a stage: its layers pass on maps of several scales
# What a gate looks at, in the order of capacity.
READS = ("block", "policy", "recurrent")
CRITERIA = ("confidence", "entropy", "learned", "policy", "pixels")

MAX_STAGES = 32
MAX_DEPTH = 64
MAX_EXITS = 8  # exits.at lists subsets of the positions
MAX_SIZES = 8  # resolutions to choose from per image: a training runs all of them


_KERNEL = Rule(int, minimum=1, maximum=31, odd=True)
_WIDTH = whole(1, 8192)


class _DenseLayer(Block):
    """The facts of the multi-scale layer, which is no registered block."""

    provides: ClassVar[frozenset[str]] = frozenset()
    reshapes = False


def block_facts(name: str) -> type[Block]:
    """Return the facts of a block, the multi-scale layer among them.

    Raises:
        SpaceError: there is no such block.
    """
    return _DenseLayer if name == DENSE_BLOCK else BLOCKS[name]


def facts(kind: Kind, name: str) -> type[Operator]:
    """Return the facts of an operator by the key that chooses it and its name.

    Raises:
        SpaceError: there is no such operator.
    """
    if kind == "block":
        return block_facts(name)
    if kind == "gate":
        return NoGate if name == NO_GATE else GATES[name]
    return OPERATORS[kind][name]


NO_GATE = "none"


class NoGate(Operator):
    """The facts of a block without a gate."""

    capacity = math.inf  # a block that leaves out nothing has the most capacity


def operators(kind: Kind) -> tuple[str, ...]:
    """Return the names of all operators of a kind, in the order of capacity."""
    if kind == "block":
        return (*BLOCKS, DENSE_BLOCK)
    return (*GATES, NO_GATE) if kind == "gate" else tuple(OPERATORS[kind])


def refused(kind: Kind, name: str, other_kind: Kind, other: str) -> str | None:
    """Return why two operators make no sense in one layer; None if they do."""
    return refusal(kind, facts(kind, name), other_kind, facts(other_kind, other))


KINDS: tuple[Kind, ...] = ("block", "op", "attention", "activation", "gate")

_PREFIXES: Mapping[Kind, str] = {
    "block": "",
    "op": "",
    "attention": "attention_",
    "activation": "activation_",
    "gate": "gate_",
}
"""The prefix of an operator's knobs in space files, by the operator's kind."""


def _operator_knobs(kind: Kind) -> Iterator[Knob]:
    """Yield the knobs of all operators of a kind; operators may share one.

    Raises:
        SpaceError: two operators have knobs of one name and different meaning.
    """
    found: dict[str, tuple[Knob, list[str]]] = {}
    for name in operators(kind):
        for knob in facts(kind, name).knobs:
            held, users = found.setdefault(knob.name, (knob, []))
            if (held.rule, held.default) != (knob.rule, knob.default):
                raise SpaceError(
                    f"{kind} {name!r} and {kind} {users[0]!r} have a knob {knob.name!r} of different values "
                    "or defaults; one of them must call it otherwise"
                )
            users.append(name)
    for _, (knob, users) in sorted(found.items()):  # whatever operators there are, in one order
        yield replace(knob, name=f"{_PREFIXES[kind]}{knob.name}", when=When(kind, tuple(users)))


def layer_knobs() -> tuple[Knob, ...]:
    """Return the knobs of a layer: the choice of its operators, and the knobs of these operators."""
    reading = tuple(name for name, gate in GATES.items() if gate.reads_others)
    return (
        Knob("block", Rule(str, choices=operators("block")), "kind of block", default="mbconv"),
        Knob("kernel", _KERNEL, "kernel size", default=3),
        *_operator_knobs("block"),
        Knob(
            "op",
            Rule(str, choices=operators("op")),
            "how the convolutions' weights depend on the image",
            default="static",
        ),
        *_operator_knobs("op"),
        Knob("attention", Rule(str, choices=operators("attention")), "channel attention", default="none"),
        *_operator_knobs("attention"),
        activation_knob("activation"),
        *_operator_knobs("activation"),
        Knob(
            "gate",
            Rule(str, choices=operators("gate")),
            "part of the block that an image may leave out; not skip, halt or positions in a stage's first "
            "block",
            default=NO_GATE,
        ),
        Knob(
            "gate_target",
            real(0.05, 1),
            "share of the block's multiply-adds to be used, in the mean over images",
            default=0.5,
            when=When("gate", (NO_GATE,), excluded=True),
        ),
        Knob(
            "gate_reads",
            Rule(str, choices=READS),
            "what the gate looks at: the block's own input, what one policy network says of the image, or "
            "what an LSTM says that has seen the inputs of all such blocks so far",
            default="block",
            when=When("gate", reading),
        ),
        *_operator_knobs("gate"),
    )


def activation_knob(help: str, when: When | None = None) -> Knob:
    """Return the knob that chooses an activation."""
    return Knob("activation", Rule(str, choices=operators("activation")), help, default="relu", when=when)


def layer_choices(value_of: Callable[[str], Value | None]) -> dict[Kind, Choice]:
    """Return the operators of a layer by kind, from the values of its knobs; None stands for the default."""
    found: dict[Kind, Choice] = {}
    for kind in KINDS:
        name = str(value_of(kind) or NO_GATE)
        params: dict[str, Value] = {}
        if kind == "gate" and name != NO_GATE:
            params["target"] = float(value_of("gate_target") or 0.5)
            reads = value_of("gate_reads")
            if reads is not None and reads != "block":
                params["reads"] = reads
        for knob in facts(kind, name).knobs:
            value = value_of(f"{_PREFIXES[kind]}{knob.name}")
            value = knob.default if value is None else value
            if value is not None:
                params[knob.name] = knob.rule.kind(value)
        found[kind] = Choice.of(name, **params)
    return found


CHANNELS = Knob("channels", whole(1, 4096), "channels of an input image; taken from the data if not given")
CLASSES = Knob("classes", whole(2, 1_000_000), "classes to tell apart; taken from the data if not given")
SIDE = whole(1, 4096)
RESOLUTIONS = Knob(
    "resolutions",
    SIDE,
    "side of the square input image, in pixels; in a list also [height, width] of one that is no square",
)

RESOLUTION_CHOICE = (
    Knob(
        "choose",
        Rule(str, choices=(PER_IMAGE, GLANCE, FIXED)),
        "whether all images have one of the resolutions (fixed), a predictor chooses for each image "
        "(per_image), or each is seen whole at a lower one and, unless that suffices, in part at the "
        "largest (glance); the last two have no other gates and exits",
        default=FIXED,
    ),
    Knob(
        "target",
        Rule(float, minimum=0.05, maximum=1),
        "share of the largest resolution's multiply-adds to be used, in the mean over images",
        default=0.5,
        when=When("choose", (PER_IMAGE,)),
    ),
    Knob(
        "thresholds",
        Rule(float, minimum=0, maximum=1),
        "confidence of a glance, by its largest softmax, from which an image leaves",
        default=0.8,
        when=When("choose", (GLANCE,)),
    ),
)


def stem_knobs() -> tuple[Knob, ...]:
    """Return the knobs of the first convolution."""
    return (
        Knob("width", _WIDTH, "output channels"),
        Knob("kernel", _KERNEL, "kernel size", default=3),
        Knob("stride", whole(1, 8), "stride", default=1),
        activation_knob("activation"),
    )


STAGE = (
    Knob("depth", whole(1, MAX_DEPTH), "number of blocks", default=1),
    Knob("width", _WIDTH, "output channels of every block; of msd, channels it adds to the finest scale"),
    Knob("stride", whole(1, 8), "stride of the first block", default=1),
)

# The network that gates may read, one value: what is searched is which gates do.
POLICY = (
    Knob(
        "width",
        whole(4, 1024),
        "size of its embedding of an image, and channels of the last two of its four convolutions",
        default=32,
    ),
)

# Of a stage of `msd`, one value each: what is searched of it is width, depth and kernel.
DENSE = (
    Knob(
        "scales", whole(1, 6), "resolutions, each half of the one before, with twice the channels", default=3
    ),
    Knob(
        "finest",
        whole(0, 5),
        "finest scale that the stage computes: rising over the stages as in MSDNet, falling as in RANet",
        default=0,
    ),
    Knob(
        "links",
        Rule(str, choices=("down", "both")),
        "which neighbours a scale sees: the next finer one (down), or the next coarser one too (both)",
        default="down",
    ),
    Knob(
        "bottleneck",
        whole(0, 64),
        "channels of a 1x1 convolution before each convolution, over those which that makes on the finest "
        "scale, doubled with every further one; 0 for none",
        default=1,
    ),
    Knob(
        "keep",
        Rule(float, minimum=0.01, maximum=1),
        "part of its channels that a scale is brought down to after the stage's first layer",
        default=1.0,
    ),
)


CLASSIFIER, OF_TASK = "classifier", "task"


def head_kind() -> Knob:
    """Return the knob that chooses what the network ends in."""
    return Knob(
        "kind",
        Rule(str, choices=(CLASSIFIER, *HEADS)),
        "what reads the backbone's maps: classes or numbers of the image (classifier), classes of pixels "
        "(lraspp, pyramid), boxes, or the head that the task builds (task); told by data.task if not given",
        default=CLASSIFIER,
    )


def map_head_knobs() -> tuple[Knob, ...]:
    """Return the knobs of heads that read several maps.

    Raises:
        SpaceError: two heads have knobs of one name and different meaning.
    """
    found: dict[str, tuple[Knob, list[str]]] = {}
    for name, head in HEADS.items():
        for knob in head.knobs:
            held, users = found.setdefault(knob.name, (knob, []))
            if held != knob:
                raise SpaceError(
                    f"head {name!r} and head {users[0]!r} have a knob {knob.name!r} of different values or "
                    "defaults; one of them must call it otherwise"
                )
            users.append(name)
    return tuple(replace(knob, when=When("kind", tuple(users))) for knob, users in found.values())


def head_knobs() -> tuple[Knob, ...]:
    """Return the knobs of the final classifier."""
    return (
        Knob(
            "width", whole(0, 8192), "channels of the 1x1 convolution before pooling; 0 for none", default=0
        ),
        activation_knob("its activation", When("width", (0,), excluded=True)),
        Knob("dropout", real(0, 0.95), "dropout before the classifier", default=0.0),
    )


# `count` chooses how many of the positions have an exit; its default is every number of them.
EXIT_COUNT = Knob("count", whole(0, MAX_EXITS), "how many exits a network has")
_EXITS_WANTED = When("count", (0,), excluded=True)


def exit_knobs() -> tuple[Knob, ...]:
    """Return the knobs of early classifiers."""
    return (
        Knob(
            "thresholds",
            real(0, 1),
            "confidence from which an image leaves, from 0 to 1",
            default=0.8,
            when=_EXITS_WANTED,
        ),
        Knob("width", _WIDTH, "channels of the 1x1 convolution of an exit", default=64, when=_EXITS_WANTED),
        activation_knob("its activation", _EXITS_WANTED),
        Knob(
            "criterion",
            Rule(str, choices=CRITERIA),
            "confidence of an exit: its largest softmax, of pixels the mean, of boxes the highest score "
            "(confidence), 1 - entropy / log(classes) (entropy), the output of a gate that is trained to "
            "know whether the exit is right (learned), that of a policy that is trained to stop where "
            "loss and price are least (policy), or the share of pixels that are told with at least 0.9 "
            "(pixels)",
            default="confidence",
            when=_EXITS_WANTED,
        ),
    )
