"""Side values passed between slots together with the feature map, e.g. the policy embedding or an LSTM state.

A slot that reads or hands on such values *carries* them: its module has an attribute `carried`, the `Carried`
of all of them, and takes and gives a `Flow`. Every other slot takes and gives the feature map and notices
nothing. `dynnas.nn.networks.network.carries` says of a config what its module carries, without building it.

A family of gates declares them in `Gated.carries(config)`. Its `Gated.decided` takes the flow and gives the
next one: it reads `flow.value(carried)`, which is None where nobody has handed it on yet, and gives
`flow.hand_on(y, {name: value})`. A value that is for the next slot alone (`lasts` false) lies in `flow.next`,
and is gone behind any slot that does not hand it on again.

Between the parts of a network that branches at its exits everything is one tensor: values first, those of an
image as channels that are the same everywhere, and the map last (`Pack`, `Unpack`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynnas.nn.layers.maps import Maps, pack

Beside = Mapping[str, Tensor]
"""Side values by name; each has a row for each image."""

NOTHING: Beside = MappingProxyType({})


@dataclass(frozen=True)
class Carried:
    """The declaration of a side value.

    Attributes:
        name: no other value of a network has it.
        channels: it is (B, channels), or with `spatial` (B, channels, H, W), of the map's size.
        lasts: whether slots that do not carry it leave it alone; else it is gone behind the first of them.
    """

    name: str
    channels: int
    spatial: bool = False
    lasts: bool = True


class Flow(NamedTuple):
    """A feature map with its side values, as slots that carry values take and give it.

    Attributes:
        x: the feature map (B, C, H, W), or those of all scales. beside: values that last.
        next: values that only the next slot may read. shared: weights that several slots use; they are no
            values of an image, and each part of a network has them from the slot that owns them.
    """

    x: Tensor | Maps
    beside: Beside = NOTHING
    next: Beside = NOTHING
    shared: Beside = NOTHING

    def value(self, carried: Carried) -> Tensor | None:
        """Return a side value (B, channels), or None."""
        return (self.beside if carried.lasts else self.next).get(carried.name)

    def hand_on(self, x: Tensor | Maps, beside: Beside = NOTHING, next: Beside = NOTHING) -> Flow:
        """Return a flow with another map (B, C, H, W), these side values, and those that last."""
        return Flow(x, {**self.beside, **beside}, next, self.shared)

    def with_values(self, beside: Beside) -> Flow:
        """Return the same map with these side values and those that last."""
        return self._replace(beside={**self.beside, **beside})

    def of(self, rows: Tensor) -> Flow:
        """Return the flow of the images whose indices are `rows` (n,)."""
        assert isinstance(self.x, Tensor)
        beside, following = (
            {name: value[rows] for name, value in values.items()} for values in (self.beside, self.next)
        )
        return Flow(self.x[rows], beside, following, self.shared)


def pass_through(call: Callable[[Any], Any], carried: Sequence[Carried], flow: Flow) -> Flow:
    """Return the output of a slot that `call` runs."""
    if carried:
        found: Flow = call(flow)
        return found
    return Flow(call(flow.x), flow.beside, shared=flow.shared)


def alive(carried: Sequence[Sequence[Carried]], at: int) -> tuple[Carried, ...]:
    """Return what must be handed on to slot number `at`, if the slots in their order carry `carried`."""
    before = dict.fromkeys(value for slot in carried[:at] for value in slot)
    after = {value for slot in carried[at:] for value in slot}
    here = {*carried[at - 1]} & {*carried[at]} if 0 < at < len(carried) else set()
    return tuple(value for value in before if value in after and (value.lasts or value in here))


def carried_by(module: nn.Module) -> tuple[Carried, ...]:
    """Return the side values of a slot's module."""
    found: tuple[Carried, ...] = getattr(module, "carried", ())
    return found


class Pack(nn.Module):
    """Packs side values in front of the map, as channels: 0 for those that nobody has handed on."""

    def __init__(self, values: Sequence[Carried]) -> None:
        """Pack `values`, in this order."""
        super().__init__()
        self.carried = tuple(values)

    def forward(self, flow: Flow) -> Flow:
        """Pack a flow into a flow of a single tensor."""
        x = flow.x if isinstance(flow.x, Tensor) else pack(flow.x)
        parts = []
        for carried in self.carried:
            value = flow.value(carried)
            if value is None:
                value = x.new_zeros((x.shape[0], carried.channels))
            if value.ndim == 2:
                value = value[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])
            parts.append(value.to(x.dtype))
        return Flow(torch.cat([*parts, x], dim=1))


class Unpack(nn.Module):
    """Unpacks what `Pack` put in front of the map."""

    def __init__(self, values: Sequence[Carried]) -> None:
        """Unpack `values`, in the order in which they were packed."""
        super().__init__()
        self.carried = tuple(values)

    def forward(self, flow: Flow) -> Flow:
        """Unpack a flow of a single tensor."""
        assert isinstance(flow.x, Tensor)
        sizes = [carried.channels for carried in self.carried]
        *parts, x = flow.x.split([*sizes, flow.x.shape[1] - sum(sizes)], dim=1)
        found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for carried, part in zip(self.carried, parts, strict=True):
            found[not carried.lasts][carried.name] = part if carried.spatial else part[:, :, 0, 0]
        beside, following = found
        return flow.hand_on(x, beside, following)
