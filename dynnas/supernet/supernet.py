"""The shared weights of a whole design space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dynnas.errors import DynnasError, SpaceError
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.layers.digest import weights_digest
from dynnas.space.architecture import Architecture, Value
from dynnas.space.space import Space
from dynnas.supernet.build import Build, BuildsParts, OnePart
from dynnas.supernet.covering import covering as find_covering
from dynnas.supernet.elastic import Convert, Elastic

_SPELLED = 8
"""Maximum number of values that a message names."""


class Supernet(nn.Module):
    """One set of weights for every network of a space.

    Each named tensor is shared: a network takes the part of it that its own shape asks for, by the rules of
    `dynnas.nn.slicing`.

    Args:
        space: what may be chosen.
        build: makes the network of an architecture; by default that of the space (`Space.of`).
        covering: more architectures to make room for, where those that are found do not suffice.
        seed: draws the initial weights.

    Raises:
        SpaceError: the space has no function that makes a network and none is given, or no rule says how a
        tensor of several shapes is shared. The message names the tensor.
    """

    def __init__(
        self,
        space: Space,
        build: Build | None = None,
        *,
        covering: Sequence[Mapping[str, Value]] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.space = space
        own = space.model if isinstance(space.model, BuildsParts) else space.build
        made: Build = build or own
        if isinstance(made, BuildsParts):
            self.build: Any = made
        else:
            more = [space.architecture(values) for values in covering]
            self.build = OnePart(made, find_covering(space, made, more), space.image_shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.slots = nn.ModuleDict(
                {
                    slot_key(part): Elastic[Any](self.build.part, configs, shared_name=self.build.shared_name)
                    for part, configs in self.build.covering().items()
                }
            )

    def forward(
        self,
        architecture: Mapping[str, Value],
        *inputs: Any,
        context: Context = PLAIN,
        convert: Convert | None = None,
        **options: Any,
    ) -> Any:
        """Run a network with its part of the shared weights; batch norms use the statistics of the batch.

        Args:
            architecture: a member of the space, or its values.
            inputs: those of the network, and so are the outputs.
            context: is supplied to all layers of dynnas.
            convert: runs what it makes of each part of the network; None runs the parts as they are built.
            options: further arguments of the network.

        Raises:
            SpaceError: a network of one's own class fails; the message names its values.
        """

        def call(part: str, config: Any, *values: Any, **more: Any) -> Any:
            return self.slots[slot_key(part)](config, *values, context=context, convert=convert, **more)

        member = self._member(architecture)
        try:
            return self.build.run(call, member, *inputs, training=self.training, **options)
        except DynnasError:
            raise
        except Exception as error:
            if self.space.model is None:
                raise
            spelled = [f"{name}={value!r}" for name, value in self.space.arguments(member).items()]
            values = ", ".join([*spelled[:_SPELLED], *(["..."] if len(spelled) > _SPELLED else [])])
            raise SpaceError(
                f"{self.space.name}({values}) cannot be run: {type(error).__name__}: {error}; correct it or "
                "leave out these values"
            ) from error

    def extract(self, architecture: Mapping[str, Value], **options: Any) -> Any:
        """Return a plain network with its own copies of the weights, in the mode and place of the supernet.

        Calibrate its batch norms before using it. It computes exactly what the supernet computes.
        """

        def extracted(part: str, config: Any) -> nn.Module:
            elastic = self.slots[slot_key(part)]
            assert isinstance(elastic, Elastic)
            return elastic.extract(config)

        network = self.build.extract(extracted, self._member(architecture), **options)
        return network.to(next(self.parameters()).device).train(self.training)

    def digest(self) -> str:
        """Return sixteen hexadecimal digits of all weights."""
        return weights_digest(self)

    def _member(self, values: Mapping[str, Value]) -> Architecture:
        if isinstance(values, Architecture):
            return values
        if not isinstance(values, Mapping):
            raise SpaceError(
                f"a supernet takes an architecture first, then the inputs; found {type(values).__name__}"
            )
        return self.space.architecture(values)


def slot_key(part: str) -> str:
    """Return the key of a part in a `ModuleDict`, whose keys may hold no dots."""
    return part.replace(".", "__")
