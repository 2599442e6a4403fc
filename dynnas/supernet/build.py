"""What a supernet is made for: a function from an architecture to a network, perhaps part by part."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import nn

from dynnas.space.architecture import Architecture

Build = Callable[..., nn.Module]
"""Makes the network of an architecture: `build(architecture)`."""

Call = Callable[..., Any]
"""Runs a part of the supernet: its name, what it is built from, and its inputs."""


@runtime_checkable
class BuildsParts(Protocol):
    """A function from an architecture to a network that can also build each of its parts alone.

    A supernet then keeps shared tensors and modules part by part. That is faster where many architectures
    have parts in common: a new architecture is made of modules that others have run.
    """

    def __call__(self, architecture: Architecture, /) -> nn.Module:
        """Build the network of an architecture."""
        ...

    def covering(self) -> Mapping[str, Sequence[Hashable]]:
        """For each part that any architecture has, what to build so that every other fits into it."""
        ...

    def part(self, config: Any, /) -> nn.Module:
        """Build a part."""
        ...

    def shared_name(self, config: Any, name: str, /) -> str:
        """Return the name under which the tensor `name` of a part is shared."""
        ...

    def run(
        self, call: Call, architecture: Architecture, /, *inputs: Any, training: bool, **options: Any
    ) -> Any:
        """Run a network whose parts are run by `call`; `training` is the mode of the supernet."""
        ...

    def extract(
        self, extracted: Callable[[str, Any], nn.Module], architecture: Architecture, /, **options: Any
    ) -> nn.Module:
        """Make a network of the parts that `extracted` gives, by their names and what they are built from."""
        ...


class OnePart:
    """Any function from an architecture to a network, as a network of one part.

    Args:
        build: makes the network of an architecture.
        covering: architectures of which one has every tensor, as large on every axis as any needs it.
    """

    def __init__(self, build: Build, covering: Sequence[Architecture]) -> None:
        self._build, self._covering = build, covering

    def __call__(self, architecture: Architecture, /) -> nn.Module:
        """Build the network of an architecture."""
        return self._build(architecture)

    part = __call__

    def covering(self) -> Mapping[str, Sequence[Hashable]]:
        """Return the only part."""
        return {"network": self._covering}

    def shared_name(self, config: Any, name: str, /) -> str:
        """Return its own name."""
        return name

    def run(
        self, call: Call, architecture: Architecture, /, *inputs: Any, training: bool, **options: Any
    ) -> Any:
        """Run the network."""
        return call("network", architecture, *inputs, **options)

    def extract(
        self, extracted: Callable[[str, Any], nn.Module], architecture: Architecture, /, **options: Any
    ) -> nn.Module:
        """Return the network."""
        return extracted("network", architecture)
