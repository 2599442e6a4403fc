"""One interface to what the trainer trains: a supernet, a network of dynnas, or any module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dynnas.nn.context import Context, supplied
from dynnas.nn.exits.early_exits import EarlyExits, ExitMode
from dynnas.nn.exits.exits import Leaving
from dynnas.nn.gates.costs import GateCost, gate_costs, gate_costs_of
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.network import Network
from dynnas.nn.networks.sized import SizedNetwork
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space
from dynnas.supernet.build import seen
from dynnas.supernet.staged import StagedBuild
from dynnas.supernet.supernet import Supernet


class Model(Protocol):
    """Something that can be trained."""

    @property
    def module(self) -> nn.Module:
        """Return the module with all weights."""
        ...

    @property
    def space(self) -> Space | None:
        """Return the space of a supernet; None for a single network."""
        ...

    def forward(
        self, inputs: Any, architecture: Architecture | None, context: Context, open_gates: bool
    ) -> tuple[Tensor, ...]:
        """Return the outputs (B, ...) of every exit in order, then the last."""
        ...

    def exits(self, architecture: Architecture | None) -> Sequence[Leaving]:
        """Return the places where images may leave the network."""
        ...

    def costs(self, architecture: Architecture | None, inputs: Any) -> Sequence[GateCost]:
        """Return the costs of the network's gates, in the order in which they run."""
        ...

    def exit_macs(self, architecture: Architecture | None, inputs: Any) -> Sequence[int]:
        """Return the multiply-adds of an image that leaves at each exit, then at the head."""
        ...

    def trial(self) -> Model:
        """Return a model to time steps with, whose steps change nothing in this one but gradients."""
        ...

    def convert(self, convert: Callable[[nn.Module], nn.Module]) -> None:
        """Run the result of `convert` in place of each module from now on."""
        ...


def model_of(module: nn.Module | Model) -> Model:
    """Return the model of a module; a model is returned as it is."""
    if isinstance(module, Supernet):
        return SupernetModel(module)
    if isinstance(module, Network):
        return NetworkModel(module)
    if isinstance(module, SizedNetwork):
        return SizedModel(module)
    return ModuleModel(module) if isinstance(module, nn.Module) else module


class SupernetModel:
    """A supernet, whose networks are run by their architectures."""

    def __init__(self, supernet: Supernet) -> None:
        self.module = supernet
        self.space: Space | None = supernet.space
        self._costs: dict[Architecture, Sequence[GateCost]] = {}
        self._exit_macs: dict[Architecture, Sequence[int]] = {}
        self._convert: Callable[[nn.Module], nn.Module] | None = None

    def forward(
        self, inputs: Any, architecture: Architecture | None, context: Context, open_gates: bool
    ) -> tuple[Tensor, ...]:
        """See `Model.forward`."""
        assert architecture is not None
        if isinstance(self.module.build, StagedBuild):
            staged: tuple[Tensor, ...] = self.module(
                architecture, inputs, open_gates=open_gates, context=context, convert=self._convert
            )
            return staged
        if open_gates:
            context = context.replace(replace(context[GateMode], choice="all"))
        return _several(self.module(architecture, inputs, context=context, convert=self._convert))

    def exits(self, architecture: Architecture | None) -> Sequence[Leaving]:
        """See `Model.exits`."""
        assert architecture is not None
        build = self.module.build
        return build.config(architecture).exits if isinstance(build, StagedBuild) else ()

    def costs(self, architecture: Architecture | None, inputs: Any) -> Sequence[GateCost]:
        """See `Model.costs`."""
        assert architecture is not None
        build = self.module.build
        if isinstance(build, StagedBuild):
            return gate_costs(build.config(architecture))
        if architecture not in self._costs:
            network, images = self.module.extract(architecture).eval(), self._seen(architecture, inputs)
            with torch.no_grad():
                self._costs[architecture] = gate_costs_of(network, lambda: network(images))
        return self._costs[architecture]

    def exit_macs(self, architecture: Architecture | None, inputs: Any) -> Sequence[int]:
        """See `Model.exit_macs`."""
        assert architecture is not None
        if architecture not in self._exit_macs:
            build = self.module.build
            self._exit_macs[architecture] = (
                cost(build.config(architecture)).exit_macs
                if isinstance(build, StagedBuild)
                else _counted(self.module.extract(architecture), self._seen(architecture, inputs))
            )
        return self._exit_macs[architecture]

    def _seen(self, architecture: Architecture, inputs: Any) -> Any:
        return seen(self.module.space.image_shape, architecture, inputs)

    def trial(self) -> Model:
        """Return the model itself: shared weights have no statistics."""
        return self

    def convert(self, convert: Callable[[nn.Module], nn.Module]) -> None:
        """See `Model.convert`."""
        self._convert = convert


class ModuleModel:
    """Any module, called with the inputs alone; its output is a tensor, or several ending in the last."""

    space: Space | None = None

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._costs: Sequence[GateCost] | None = None
        self._exit_macs: Sequence[int] | None = None

    def forward(
        self, inputs: Any, architecture: Architecture | None, context: Context, open_gates: bool
    ) -> tuple[Tensor, ...]:
        """See `Model.forward`."""
        with supplied(self.module, context):
            return _several(self.call(inputs))

    def call(self, inputs: Any) -> Any:
        """Call the module."""
        return self.module(inputs)

    def exits(self, architecture: Architecture | None) -> Sequence[Leaving]:
        """Return no exits that learn their confidence: earlier outputs count as the last."""
        return ()

    def costs(self, architecture: Architecture | None, inputs: Any) -> Sequence[GateCost]:
        """See `Model.costs`; found by one run on these inputs."""
        if self._costs is None:
            still = type(self)(copy.deepcopy(self.module).eval())
            with torch.no_grad():
                self._costs = gate_costs_of(still.module, lambda: still.call(inputs))
        return self._costs

    def exit_macs(self, architecture: Architecture | None, inputs: Any) -> Sequence[int]:
        """See `Model.exit_macs`; found by a run for each exit on one of these inputs."""
        if self._exit_macs is None:
            self._exit_macs = _counted(self.module, inputs)
        return self._exit_macs

    def trial(self) -> Model:
        """Return a copy, because statistics of batch norms must not change."""
        return type(self)(copy.deepcopy(self.module))

    def convert(self, convert: Callable[[nn.Module], nn.Module]) -> None:
        """See `Model.convert`."""
        self.module = convert(self.module)


class NetworkModel(ModuleModel):
    """A network of dynnas: its images are resized to its resolution, and its exits are known."""

    module: Network

    def call(self, inputs: Any) -> Any:
        """Run it on images (B, C, H, W) of any resolution."""
        return self.module.logits(resize(inputs, self.module.config.shape[1:]))

    def exits(self, architecture: Architecture | None) -> Sequence[Leaving]:
        """See `Model.exits`."""
        return self.module.config.exits

    def costs(self, architecture: Architecture | None, inputs: Any) -> Sequence[GateCost]:
        """See `Model.costs`."""
        return gate_costs(self.module.config)

    def exit_macs(self, architecture: Architecture | None, inputs: Any) -> Sequence[int]:
        """See `Model.exit_macs`."""
        return cost(self.module.config).exit_macs


class SizedModel(ModuleModel):
    """A network that says what images it takes: they are resized to those."""

    module: SizedNetwork

    def call(self, inputs: Any) -> Any:
        """Run it on images (B, C, H, W) of any size."""
        return super().call(self._seen(inputs))

    def exit_macs(self, architecture: Architecture | None, inputs: Any) -> Sequence[int]:
        """See `Model.exit_macs`."""
        return super().exit_macs(architecture, self._seen(inputs))

    def _seen(self, images: Any) -> Any:
        return resize(images, self.module.config.shape[1:])


@torch.no_grad()
def _counted(module: nn.Module, inputs: Any) -> Sequence[int]:
    """Return the multiply-adds of an image that leaves at each exit of a module's `EarlyExits`."""
    still = copy.deepcopy(module).eval()
    exits = max((len(each.thresholds) for each in still.modules() if isinstance(each, EarlyExits)), default=0)
    found = []
    for number in range(exits + 1):
        with supplied(still, Context(GateMode(choice="all"), ExitMode(number))):
            found.append(count_macs(still, inputs[:1])[1])
    return found


def _several(outputs: Any) -> tuple[Tensor, ...]:
    """Return the outputs of a module that returns a tensor, or several ending in the last."""
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
