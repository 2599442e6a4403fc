"""The registries of blocks, attentions, activations and heads, and the base classes of their entries.

Kernels have theirs beside their base class, gates in `dynnas.nn.gates.family`. Reading one loads what it
holds: see `dynnas.registry`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar

from torch import nn

from dynnas.nn.facts import GATES, KERNEL_OPS, Operator
from dynnas.registry import Registry


class Block(Operator, nn.Module):
    """A block of a stage: a module from (B, Ci, H, W) to (B, Co, H / stride, W / stride).

    Its constructor takes a `dynnas.nn.config.network.BlockConfig`, whose `block` holds the values of its
    knobs. Its convolutions may have channels between them that an image uses in part: then it says so in
    `provides`, has a static method `hidden_channels(config)`, and takes a `Hidden` in `forward`.
    """

    provides = frozenset({KERNEL_OPS, GATES})

    least_channels: ClassVar[int] = 1
    """The least number of channels, in and out: the block cuts them into parts."""

    reshapes: ClassVar[bool] = True
    """True if it has other weights where its output has another shape than its input."""


class Attention(Operator, nn.Module):
    """A module from (B, C, H, W) to the same shape, made from the number of channels and its knobs."""

    input_dependent = True


class Activation(Operator, nn.Module):
    """A module from (B, C, H, W) to the same shape, made from the number of channels and its knobs."""


class MapHead(Operator, nn.Module):
    """A head from maps (B, Ci, Hi, Wi), the finest first, to an answer for places: (B, ...).

    Its constructor takes a `dynnas.nn.config.backbone.MapHeadConfig`, whose `kind` holds the values of its
    knobs. A knob `finest` says which maps it gets: those of that stride and coarser ones.
    """

    answers: ClassVar[str]
    """The kind of its answers, as a task's `answers`: "pixels" or "boxes"."""


BLOCKS: Registry[type[Any]] = Registry(
    "block", group="dynnas.blocks", package="dynnas.nn.blocks", order=attrgetter("capacity"), base=Block
)
ATTENTIONS: Registry[type[Any]] = Registry(
    "attention",
    group="dynnas.attentions",
    package="dynnas.nn.attentions",
    order=attrgetter("capacity"),
    base=Attention,
)
ACTIVATIONS: Registry[type[Any]] = Registry(
    "activation",
    group="dynnas.activations",
    package="dynnas.nn.activations",
    order=attrgetter("capacity"),
    base=Activation,
)

HEADS: Registry[type[Any]] = Registry(
    "head", group="dynnas.heads", package="dynnas.nn.heads", order=attrgetter("capacity"), base=MapHead
)

register_block = BLOCKS.register
register_attention = ATTENTIONS.register
register_activation = ACTIVATIONS.register
