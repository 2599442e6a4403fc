"""Structured pruning: whole channels go, by the importance of their weights, and the rest is tuned.

A pruned network is an ordinary one of a smaller config, so that all that runs, times and exports networks
takes it as it is. The axes of tensors that belong to a channel are not written down anywhere: a slot's
module is built (without values) with one number of its config changed, and the axes that change by as much
are those. Axes that follow in another measure, as the hidden units of a squeeze, keep their leading part.

Channels that residual connections tie together are kept or dropped together, with the sum of what they count.

(torch-pruning 1.6 finds such groups by tracing, but only among torch's own layers: in networks whose kernels
are modules of their own it finds none.)

A network of one's own class has the groups that `dynnas.elastic` finds (`dynnas.supernet.prunable`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor

from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.compression.importance import WITHOUT_IMAGES, Scores, weight_importance
from dynnas.errors import TrainingError
from dynnas.nn.config.network import BlockConfig, ExitConfig, HeadConfig, NetworkConfig, SlotConfig
from dynnas.nn.layers.unfilled import unfilled
from dynnas.nn.networks.network import Network, build, slot_module
from dynnas.runtimes.plain import PlainNetwork
from dynnas.supernet.prunable import PrunableModule, left_of, whole

HIDDEN = {"mbconv", "fused_mbconv"}
"""Blocks whose inner channels are their input's times `expand`."""

FREE = {"conv", "dwsep", "lowrank", *HIDDEN}
"""Blocks whose input and output channels can be dropped one by one: no groups, no shuffles, no halves, and no
shortcut that is not an identity.
"""

_FIELDS = {"in": "in_channels", "out": "out_channels", "width": "width"}

Slot = TypeVar("Slot", bound=SlotConfig)

_Channels = dict[str, list[int]]
"""The numbers of channels before and after, by the name of their group."""

Kept = Mapping[str, Tensor]
"""Indices of the channels that stay, by the name of their group."""


@dataclass(frozen=True)
class Axis:
    """One place where a group of channels is counted: a number in a slot's config."""

    slot: str
    part: str
    """`in`, `out`, `hidden` or `width`."""


def _run(source: CompressionInput) -> CompressedModel:
    """Drop the share `amount` of each group's channels, then tune what is left."""
    amount, importance = float(source.options["amount"]), str(source.options["importance"])
    batches = [] if importance in WITHOUT_IMAGES else source.training_batches()
    scores = weight_importance(importance, source.network, batches, source.dataset.task)
    known = None if importance == "magnitude" else scores
    if isinstance(source.network, PlainNetwork):
        pruned, channels = _pruned_module(source.network, amount, known)
    else:
        pruned, channels = _pruned_slots(source.network, amount, known)
    if all(before == after for before, after in channels.values()):
        raise TrainingError(f"prune: no channel is dropped at an amount of {amount}; give a larger --amount")
    return CompressedModel(network=source.tune(pruned), details={"channels": channels})


def _pruned_slots(network: Network, amount: float, scores: Scores | None) -> tuple[Network, _Channels]:
    groups = channel_groups(network.config)
    kept = choose_channels(network, groups, amount, scores)
    sizes = {name: [size_of(network.config, axes[0]), len(kept[name])] for name, axes in groups.items()}
    return prune(network, groups, kept), sizes


def _pruned_module(network: PlainNetwork, amount: float, scores: Scores | None) -> tuple[Network, _Channels]:
    """Prune a network of one's own class, which `Study.trained_network` makes once more by the sizes."""
    config = network.config
    found = PrunableModule.of(network.module, config.shape)
    if scores is not None:
        found = found.ordered({name.removeprefix("module."): value for name, value in scores.items()})
    widths = found.widths(amount)
    made = PlainNetwork(found.pruned(widths), config.shape, config.classes)
    return cast(Network, made), {name: [found.groups[name].size, width] for name, width in widths.items()}


def channel_groups(config: NetworkConfig) -> dict[str, tuple[Axis, ...]]:
    """Return the groups of channels that can be dropped, with all places where each is counted.

    Raises:
        TrainingError: there is none, or the network has gates or sees several resolutions.
    """
    if config.gated:
        raise TrainingError(
            f"prune: channels of blocks with gates ({config.gated[0][0]}) cannot be dropped yet; "
            "take a network without gates, or another pass"
        )
    if config.choice or config.glance:
        raise TrainingError(
            f"prune: channels of a network that sees images at several resolutions ({config.sizes}) cannot "
            "be dropped yet; take one of a fixed resolution, or another pass"
        )
    groups: dict[str, list[Axis]] = defaultdict(list)
    fixed: set[str] = set()
    trunk = "stem"
    groups[trunk].append(Axis("stem", "out"))
    after = {place.after: place for place in config.exits}
    for slot, block in (("stem", config.stem), *config.blocks):
        if isinstance(block, BlockConfig):
            groups[trunk].append(Axis(slot, "in"))
            before, trunk = trunk, trunk if _residual(block) else slot
            groups[trunk].append(Axis(slot, "out"))
            if block.block.name not in FREE:
                fixed |= {before, trunk}
            # With `expand` 1 the inner channels are as many as the input's, whatever is dropped.
            if block.block.name in HIDDEN and _expand(block) != 1:
                groups[f"{slot} hidden"].append(Axis(slot, "hidden"))
        if slot in after:
            groups[trunk].append(Axis(after[slot].slot, "in"))
    groups[trunk].append(Axis("head", "in"))
    classifiers: dict[str, ExitConfig | HeadConfig] = {place.slot: place.config for place in config.exits}
    classifiers["head"] = config.head
    for slot, classifier in classifiers.items():
        if classifier.width:
            groups[f"{slot} width"].append(Axis(slot, "width"))
    found = {name: tuple(axes) for name, axes in groups.items() if name not in fixed}
    if not found:
        raise TrainingError("prune: no channels of this network can be dropped one by one; try another pass")
    return found


def _residual(block: BlockConfig) -> bool:
    return block.block.name in HIDDEN and block.stride == 1 and block.in_channels == block.out_channels


def size_of(config: NetworkConfig, axis: Axis) -> int:
    """Return the number of channels that `axis` counts."""
    return _number(dict(config.slots())[axis.slot], axis.part)


def resized(slot: Slot, sizes: Mapping[str, int]) -> Slot:
    """Return `slot` with other numbers of channels, by `Axis.part`; those not named stay."""
    fields: dict[str, float] = {_FIELDS[part]: size for part, size in sizes.items() if part in _FIELDS}
    # Where the hidden channels are those of the input, they stay so.
    if isinstance(slot, BlockConfig) and slot.block.name in HIDDEN and _expand(slot) != 1:
        hidden = sizes.get("hidden", _number(slot, "hidden"))
        expand = hidden / sizes.get("in", slot.in_channels)
        slot = replace(slot, block=slot.block.replaced(expand=expand))
    return replace(slot, **fields)  # type: ignore[arg-type]


def choose_channels(
    network: Network,
    groups: Mapping[str, tuple[Axis, ...]],
    amount: float,
    scores: Mapping[str, Tensor] | None = None,
) -> Kept:
    """Return the most important channels of each group: by the sum of what all their weights count.

    Args:
        network: with the weights.
        groups: as `channel_groups`.
        amount: share to drop of each group, rounded down so that what is left suits `MULTIPLE`.
        scores: of each weight, as `weight_importance` gives them. If None, magnitudes count, by a channel's
            share in each of its tensors: they compare within one tensor only.
    """
    order, left = {}, {}
    parameters = dict(network.named_parameters())
    for name, axes in groups.items():
        size = size_of(network.config, axes[0])
        score = torch.zeros(size)
        for path, axis in _weights(network, axes):
            if scores is None:
                sizes = _of_channels(parameters[path].detach().float().abs(), axis)
                score += sizes / sizes.mean().clamp(min=1e-12)
            else:
                score += _of_channels(scores[path], axis)
        order[name] = score.argsort(descending=True)
        left[name] = left_of(size, amount)
    while accident := _accident(network.config, groups, left):
        size = len(order[accident])
        left[accident] = min(size, whole(left[accident] + 1, size))
    return {name: order[name][: left[name]].sort().values for name in groups}


def _accident(
    config: NetworkConfig, groups: Mapping[str, tuple[Axis, ...]], left: Mapping[str, int]
) -> str | None:
    """Return a group that must keep more channels, or None.

    With too few, a block would become one of another kind, with a residual as its input and output became
    alike, or without an expansion.
    """
    smaller = _smaller(config, groups, left)
    for (slot, before), (_, after) in zip(config.blocks, smaller.blocks, strict=True):
        if _residual(after) and not _residual(before):
            tied = [name for name, axes in groups.items() if {Axis(slot, "in"), Axis(slot, "out")} & {*axes}]
            return min(tied, key=lambda name: left[name] / size_of(config, groups[name][0]))
        if _loses_expansion(before, after):
            return f"{slot} hidden"
    return None


def _smaller(
    config: NetworkConfig, groups: Mapping[str, tuple[Axis, ...]], left: Mapping[str, int]
) -> NetworkConfig:
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for name, axes in groups.items():
        for axis in axes:
            sizes[axis.slot][axis.part] = left[name]
    return replace(
        config,
        stem=resized(config.stem, sizes["stem"]),
        blocks=tuple((slot, resized(block, sizes[slot])) for slot, block in config.blocks),
        exits=tuple(
            replace(place, config=resized(place.config, sizes[place.slot])) for place in config.exits
        ),
        head=resized(config.head, sizes["head"]),
    )


def prune(network: Network, groups: Mapping[str, tuple[Axis, ...]], kept: Kept) -> Network:
    """Return the network with the `kept` channels alone, with their weights and statistics, in eval mode."""
    config = _smaller(network.config, groups, {name: len(indices) for name, indices in kept.items()})
    pruned = Network(config)
    values = dict(network.state_dict())
    for name, axes in groups.items():
        for path, axis in _places(network, axes):
            values[path] = values[path].index_select(axis, kept[name])
    wanted = pruned.state_dict()
    for path, value in values.items():
        # Axes that follow the channels in another measure.
        wanted[path].copy_(value[tuple(slice(size) for size in wanted[path].shape)])
    return pruned.eval()


def _of_channels(values: Tensor, axis: int) -> Tensor:
    """Return the sums over all axes but one."""
    return values.movedim(axis, 0).flatten(1).sum(1)


def _weights(network: Network, axes: tuple[Axis, ...]) -> Iterator[tuple[str, int]]:
    """Yield the parameters of convolutions and classifiers that `axes` run through, and along which axis."""
    parameters = dict(network.named_parameters())
    for path, axis in _places(network, axes):
        if path in parameters and parameters[path].ndim > 1:
            yield path, axis


def _places(network: Network, axes: tuple[Axis, ...]) -> Iterator[tuple[str, int]]:
    """Yield every tensor (by its path in the network) and axis of it that counts these channels."""
    slots = dict(network.config.slots())
    for axis in axes:
        for name, place in _axes_of(slots[axis.slot], axis.part):
            yield f"slots.{slot_module(axis.slot)}.{name}", place


@cache
def _axes_of(slot: SlotConfig, part: str) -> tuple[tuple[str, int], ...]:
    """Return the tensors of a slot's module, and their axes, that grow with a number of its config."""
    size, more = _number(slot, part), 8
    if _loses_expansion(slot, resized(slot, {part: size + more})):
        more = 24
    found = []
    plain, larger = _shapes(slot), _shapes(resized(slot, {part: size + more}))
    for name, shape in plain.items():
        found += [
            (name, axis)
            for axis, (old, new) in enumerate(zip(shape, larger[name], strict=True))
            if new - old == more
        ]
    return tuple(found)


def _loses_expansion(before: SlotConfig, after: SlotConfig) -> bool:
    """Return whether equal numbers of hidden channels and inputs would mean a block of `expand` 1."""
    return (
        isinstance(before, BlockConfig)
        and isinstance(after, BlockConfig)
        and _expand(before) != 1
        and _expand(after) == 1
    )


def _number(slot: SlotConfig, part: str) -> int:
    if part == "hidden":
        assert isinstance(slot, BlockConfig)
        return round(slot.in_channels * _expand(slot))
    return int(getattr(slot, _FIELDS[part]))


def _shapes(slot: SlotConfig) -> dict[str, tuple[int, ...]]:
    with unfilled():
        module = build(slot)
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


PRUNE = Pass(_run, {"amount": 0.3, "importance": "magnitude"})


def _expand(block: BlockConfig) -> float:
    return float(block.block.get("expand", 1.0))
