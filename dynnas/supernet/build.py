"""The functions that a supernet is made for: from an architecture to a network, perhaps part by part."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from dynnas.nn.layers.resize import resize
from dynnas.space.architecture import Architecture, Value

Build = Callable[..., nn.Module]
"""A function that makes the network of an architecture: `build(architecture)`."""

Call = Callable[..., Any]
"""A function that runs a part of the supernet, by its name, its config, and its inputs."""

ImageShape = Callable[[Mapping[str, Value], tuple[int, int, int]], tuple[int, int, int]]
"""A function from an architecture and (channels, height, width) of the data to those of its network."""


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
        """Return for each part that any architecture has the configs that every other one fits into."""
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
        """Make a network of the parts that `extracted` gives, by their names and configs."""
        ...


class OnePart:
    """Any function from an architecture to a network, as a network of one part.

    Args:
        build: makes the network of an architecture.
        covering: architectures that together have every tensor, at its largest on every axis.
        image_shape: says what images a network takes, as `Space.image_shape`.
    """

    def __init__(self, build: Build, covering: Sequence[Architecture], image_shape: ImageShape) -> None:
        self._build, self._covering, self._image_shape = build, covering, image_shape

    def __call__(self, architecture: Architecture, /) -> nn.Module:
        """Build the network of an architecture."""
        return self._build(architecture)

    part = __call__

    def covering(self) -> Mapping[str, Sequence[Hashable]]:
        """Return the only part."""
        return {"network": self._covering}

    def shared_name(self, config: Any, name: str, /) -> str:
        """Return the tensor's own name."""
        return name

    def run(
        self, call: Call, architecture: Architecture, /, *inputs: Any, training: bool, **options: Any
    ) -> Any:
        """Run the network on images of its size."""
        sized = [seen(self._image_shape, architecture, each) for each in inputs]
        return call("network", architecture, *sized, **options)

    def extract(
        self, extracted: Callable[[str, Any], nn.Module], architecture: Architecture, /, **options: Any
    ) -> nn.Module:
        """Return the network."""
        return extracted("network", architecture)


def seen(image_shape: ImageShape, architecture: Mapping[str, Value], inputs: Any) -> Any:
    """Return images (B, C, H, W) in the size that a network takes; whatever else as it is."""
    if not isinstance(inputs, Tensor) or inputs.dim() != 4:
        return inputs
    channels, height, width = inputs.shape[1:]
    return resize(inputs, image_shape(architecture, (channels, height, width))[1:])
