"""A trained network as what a supernet is made for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from dynnas.nn.conv2d import Conv2d
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.resize import sides
from dynnas.nn.slicing import leading
from dynnas.space.architecture import Architecture, Value
from dynnas.supernet.build import Call, seen
from dynnas.supernet.conversion.choices import RESOLUTION, Choices
from dynnas.supernet.conversion.dynamic import begun as begun_conv
from dynnas.supernet.conversion.dynamic import rules_of
from dynnas.supernet.conversion.member import Begun, cut, kernel_rule
from dynnas.supernet.conversion.report import ElasticReport
from dynnas.supernet.fresh import draw_weights
from dynnas.supernet.rescaled import Rescaled
from dynnas.supernet.states import own_buffers_of
from dynnas.tasks.task import Task


class TrainedNetwork:
    """Makes members of a trained network: modules of its own class, with smaller layers and its weights.

    The largest member is the network itself: tensors that lose nothing are the trained ones, in their order,
    so outputs are equal bit for bit.

    Attributes:
        network: the trained module, in eval mode. report: what is elastic and what is not.
        choices: what may be chosen. begun: modules that members may have beside those of the network.
        outputs: channels that it gives; None where that is not one number.
        teaches: whether its outputs are those that it was trained for.
        states: names of buffers that a training changes, beside the statistics of norms.
        task, data_size: whose outputs are brought to pixels of the data, and height and width of these; None
            where outputs are in no pixels, or no data are known.
    """

    task: Task | None = None
    data_size: tuple[int, int] | None = None

    def __init__(
        self,
        network: nn.Module,
        choices: Choices,
        report: ElasticReport,
        *,
        begun: Begun | None = None,
        outputs: int | None = None,
        teaches: bool = True,
        states: frozenset[str] = frozenset(),
    ) -> None:
        self.network, self.choices, self.report = network, choices, report
        self.begun = begun or Begun()
        self.outputs, self.teaches, self.states = outputs, teaches, states
        self.__name__ = type(network).__name__
        genes = choices.genes()
        self._whole = Architecture(tuple((gene.name, gene.values[-1]) for gene in genes))

    def of_data(self, shape: tuple[int, int, int], task: Task) -> TrainedNetwork:
        """Return the same for images of `shape` (channels, height, width) and the outputs of a task."""
        if type(task).rescaled is Task.rescaled:
            return self
        found = copy.copy(self)
        found.task, found.data_size = task, (shape[1], shape[2])
        return found

    def _scale(self, architecture: Mapping[str, Value]) -> tuple[float, float] | None:
        """Return the pixels of the data for one that a member sees (x, y); None where they are alike."""
        size = architecture.get(RESOLUTION, self._whole.get(RESOLUTION))
        if size is None or self.data_size in (None, sides(size)):
            return None
        assert self.data_size is not None
        (height, width), (high, wide) = self.data_size, sides(size)
        return width / wide, height / high

    def _answering(self, module: nn.Module, architecture: Mapping[str, Value]) -> nn.Module:
        """Return a member that answers in pixels of the data."""
        scale = self._scale(architecture)
        return module if scale is None or self.task is None else Rescaled(module, self.task, scale)

    @property
    def static_values(self) -> dict[str, Value]:
        """Return, by gene, the value by which nothing is dynamic; empty if no gene makes anything dynamic."""
        return self.choices.static()

    @property
    def identity(self) -> str:
        """The name by which it is told from others: class, structure and weights."""
        structure = hashlib.sha256(repr(self.network).encode()).hexdigest()[:16]
        begun = [weights_digest(each) for each in self.begun.modules()]
        return " ".join([type(self.network).__qualname__, structure, weights_digest(self.network), *begun])

    def fresh(self, seed: int) -> TrainedNetwork:
        """Return the same choices of the same network, whose weights are drawn from `seed`.

        They are drawn as `dynnas.supernet.fresh.draw_weights` says. Gates begin open and exits unsure, as
        they did. The order in which channels are left out stays.
        """
        network = copy.deepcopy(self.network)
        draw_weights(network, seed)
        ops: dict[tuple[str, str], Conv2d] = {}
        for place, ((name, op), whole) in enumerate(self.begun.ops.items()):
            conv = network.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            ops[name, op] = begun_conv(conv, op, len(whole.conv.weight), seed + place)
        found = TrainedNetwork(
            network,
            self.choices,
            self.report,
            begun=replace(self.begun, ops=ops),
            outputs=self.outputs,
            teaches=False,
            states=self.states,
        )
        found.task, found.data_size = self.task, self.data_size
        return found

    def __call__(self, architecture: Mapping[str, Value] | None = None, /, **values: Value) -> nn.Module:
        """Build the member of these values, with the trained weights; what is not named is as trained.

        It is an ordinary module of the network's class, in eval mode, and knows nothing of dynnas; one whose
        outputs are in pixels of smaller images than those of the data stands in a `Rescaled`.
        """
        given = {**(architecture or {}), **values}
        return self._answering(self._cut(given), given)

    def _cut(self, values: Mapping[str, Value]) -> nn.Module:
        return cut(self._template(), self.choices.cuts(values), self.begun)

    def _template(self) -> nn.Module:
        """Return the trained network, or, where torch makes tensors without values, its shapes."""
        if not torch.empty(0).is_meta:
            return self.network
        memo: dict[int, Any] = {
            id(each): nn.Parameter(torch.empty_like(each, device="meta"), each.requires_grad)
            for each in self.network.parameters()
        }
        return copy.deepcopy(self.network, memo)

    def covering(self) -> Mapping[str, Sequence[Hashable]]:
        """Return the trained network, and with it each kind of dynamic convolutions, all gates and exits.

        All members are slices of these.
        """
        listed = [self._whole]
        for op in dict.fromkeys(op for _, op in self.begun.ops):
            own: dict[str, Value] = {f"{conv}.op": op for conv, kind in self.begun.ops if kind == op}
            listed.append(Architecture(tuple({**self._whole, **own}.items())))
        if beside := self.choices.beside():
            listed.append(Architecture(tuple({**self._whole, **beside}.items())))
        return {"network": listed}

    @cached_property
    def _shared_buffers(self) -> list[str]:
        """The names of the buffers that members have in common: those with fewer channels, and all states."""
        cut = {name for name, _ in self.choices.sizes}
        return [name for name, _ in own_buffers_of(self.network) if name in cut or name in self.states]

    def part(self, config: Architecture, /) -> nn.Module:
        """Build a member that says which slices its tensors are."""
        cuts = self.choices.cuts(config)
        module = cut(self._template(), cuts, self.begun)
        statistics = {
            f"{name}.{key}" if name else key
            for name, part in self.network.named_modules()
            if isinstance(part, _NormBase)
            for key, _ in part.named_buffers(recurse=False)
        }
        rules = {name: rule for name, rule in cuts.rules().items() if name not in statistics}
        for name, owner in self.network.named_modules():
            weight = f"{name}.weight" if name else "weight"
            if isinstance(owner, _ConvNd) and (weight in rules or name in cuts.kernels):
                rules[weight] = kernel_rule(rules.get(weight), len(owner.kernel_size))
            if isinstance(owner, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention):
                for key, _ in owner.named_parameters(prefix=name):  # channels are picked, whatever is fused
                    rules.setdefault(key, leading)
        for name in self._shared_buffers:
            rules.setdefault(name, leading)
        for name, op in cuts.ops.items():
            found = rules_of(self.begun.ops[name, op], *cuts.kept(name))
            rules |= {f"{name}.{tensor}": rule for tensor, rule in found.items()}
        own = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
        named = ((name, cuts.trained_name(name)) for name, _ in own)
        module.elastic = {name: rules[known] for name, known in named if known in rules}  # type: ignore[assignment]
        return module

    def shared_name(self, config: Any, name: str, /) -> str:
        """Return the name that a tensor has in the trained network."""
        if not (self.begun.gates or self.begun.exits):
            return name
        return self.choices.cuts(config).trained_name(name)

    def image_shape(
        self, architecture: Mapping[str, Value], shape: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """Return the shape of the images that a member takes, of data whose images are of `shape`."""
        size = architecture.get(RESOLUTION)
        return shape if size is None else (shape[0], *sides(size))

    def images(self, architecture: Mapping[str, Value], images: Any) -> Any:
        """Return images (B, C, H, W) in the size that a member takes."""
        return seen(self.image_shape, architecture, images)

    def run(
        self, call: Call, architecture: Architecture, /, *inputs: Any, training: bool, **options: Any
    ) -> Any:
        """Run a member on inputs of any size, if its size is chosen."""
        sized = [self.images(architecture, each) for each in inputs]
        output, scale = call("network", architecture, *sized, **options), self._scale(architecture)
        return output if scale is None or self.task is None else self.task.rescaled(output, scale)

    def extract(
        self, extracted: Callable[[str, Any], nn.Module], architecture: Architecture, /, **options: Any
    ) -> nn.Module:
        """Make a member of the shared weights; its norms have the trained statistics of their channels."""
        module = extracted("network", architecture)
        del module.elastic
        trained = dict(self._cut(architecture).named_buffers())
        with torch.no_grad():
            for name, part in module.named_modules():
                if isinstance(part, _NormBase):
                    for key, buffer in part.named_buffers(recurse=False):
                        buffer.copy_(trained[f"{name}.{key}" if name else key])
        return self._answering(module, architecture)
