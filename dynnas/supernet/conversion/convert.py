"""`dynnas.elastic`: a trained network becomes a design space."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from dynnas.errors import SpaceError
from dynnas.nn.conv2d import Conv2d
from dynnas.space.space import Space
from dynnas.supernet.conversion.blocks import BlocksSeen, blocks_watched, runs_of
from dynnas.supernet.conversion.choices import NUMBER, RESOLUTION, Choice, Choices
from dynnas.supernet.conversion.coupling import layers  # noqa: F401  registers the rules of layers
from dynnas.supernet.conversion.coupling.channels import Solution
from dynnas.supernet.conversion.coupling.operators import rule_of
from dynnas.supernet.conversion.coupling.sizes import sizes_known
from dynnas.supernet.conversion.coupling.tracing import Facts, Tracer, following
from dynnas.supernet.conversion.dynamic import STATIC, Op, begun, replaceable
from dynnas.supernet.conversion.groups import Group, groups_of
from dynnas.supernet.conversion.head import replace_head
from dynnas.supernet.conversion.member import Dynamics
from dynnas.supernet.conversion.network import TrainedNetwork
from dynnas.supernet.conversion.report import NO_REPORT, ElasticReport
from dynnas.supernet.conversion.trial import Trial


@dataclass(frozen=True)
class Wanted:
    """Options of `elastic`."""

    width: Sequence[float]
    divisor: int
    depth: float
    kernel: bool
    resolution: Sequence[int]
    exclude: Sequence[str]
    ops: Sequence[str] = ()

    def excludes(self, name: str) -> bool:
        """Tell whether a module or a tensor is excluded, by its own name or that of one around it."""
        steps = name.split(".")
        return any(
            fnmatchcase(".".join(steps[:count]), pattern)
            for pattern in self.exclude
            for count in range(1, len(steps) + 1)
        )


@dataclass(frozen=True)
class Analysis:
    """Findings of one run of a network."""

    tracer: Tracer
    solution: Solution
    blocks: BlocksSeen
    outputs: Any


def elastic(
    module: nn.Module,
    example_inputs: Tensor | tuple[Any, ...],
    *,
    width: Sequence[float] = (0.25, 0.5, 0.75),
    divisor: int = 8,
    depth: float = 0.5,
    kernel: bool = True,
    resolution: Sequence[int] = (),
    ops: Sequence[str] = (),
    experts: int = 4,
    exclude: str | Iterable[str] = (),
    classes: int | None = None,
    seed: int = 0,
) -> Space:
    """Make a design space of a trained network: its channels, blocks, kernels and input size may get fewer.

    One run of the network tells which channels belong together (through additions, concatenations, norms,
    groups and attention). Of each such group the channels that matter least are left out first; all stay in
    their places, so the largest member is the network itself, bit for bit. `Supernet(space)` begins with the
    trained weights, and `search(space, ...)` trains it, searches it and exports what it finds. A member is an
    ordinary module of the network's class: `space.build(values)` has the trained weights. What could not be
    made elastic is in `space.model.report`.

    Args:
        module: trained; it is copied, and the copy is put into eval mode.
        example_inputs: what it is called with: images (B, C, H, W), or a tuple of several inputs.
        width: shares of its channels that a group may have, beside all of them.
        divisor: of numbers of channels.
        depth: the least share of the residual blocks of a run that stay, the first ones; 1 for all.
        kernel: whether square kernels from 5 on may be cut to their centre.
        resolution: sides of square images that the network may get, beside that of `example_inputs`.
        ops: kernels that depend on the image, which ordinary convolutions may get in the place of their own:
            "condconv", "dyconv". They begin with banks whose mixture is the trained kernel.
        experts: kernels in a bank.
        exclude: names or patterns (`layer1.*`, `stem`) of modules and tensors that stay as they are.
        classes: outputs of a head that replaces the network's own, with new weights; the rest is kept.
        seed: draws the weights of a new head.

    Raises:
        SpaceError: the forward pass fails, depends on the values of its input, or is not deterministic;
            the module cannot be copied; or nothing of it can be made elastic. The message says why.

    Example:
        space = dynnas.elastic(resnet, torch.randn(1, 3, 224, 224), exclude="conv1")
        print(space.model.report)
        front = dynnas.search(space, data=(train, search, test), limits={"latency_ms": 5})
    """
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    wanted = Wanted(tuple(width), divisor, depth, kernel, tuple(resolution), exclude, tuple(ops))
    _check(wanted)
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    network = _copied(module)
    analysis = analyse(network, inputs, wanted)
    if classes is not None:
        replace_head(network, analysis.tracer, analysis.solution, analysis.outputs, classes, seed)
        analysis = analyse(network, inputs, wanted)
    choices, left_out = _choices(network, analysis, wanted, inputs)
    dynamics = _dynamics(network, choices, experts, seed)
    choices, failed = Trial(network, dynamics, inputs, analysis.outputs).possible(choices)
    left_out |= failed
    if not choices.listed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:5])
        raise SpaceError(f"{type(network).__name__}: nothing of it can be made elastic: {reasons}")
    dynamics = {key: each for key, each in dynamics.items() if f"{key[0]}.op" in choices.names}
    return _space(network, choices, dynamics, left_out, analysis.outputs, teaches=classes is None)


def _check(wanted: Wanted) -> None:
    if any(not 0 < share <= 1 for share in wanted.width):
        raise SpaceError(f"elastic: width is {list(wanted.width)}; allowed are shares above 0, up to 1")
    if not 0 <= wanted.depth <= 1:
        raise SpaceError(f"elastic: depth is {wanted.depth}; allowed is a share from 0 to 1")
    if wanted.divisor < 1:
        raise SpaceError(f"elastic: divisor is {wanted.divisor}; allowed are whole numbers from 1 on")


def _copied(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise SpaceError(f"elastic: found {type(module).__name__}; give a torch.nn.Module")
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise SpaceError(f"{name}: a scripted module has no layers to change; give the module it was made of")
    if any(isinstance(each, UninitializedParameter) for each in module.parameters()):
        raise SpaceError(f"{name}: has parameters without a shape; run it once before it is made elastic")
    try:
        # Modules that keep what they have computed forget it when they are trained.
        return copy.deepcopy(module).train().eval()
    except Exception as error:  # whatever a module may hold
        raise SpaceError(
            f"{name} cannot be copied ({type(error).__name__}: {error}); members are copies of it"
        ) from error


def analyse(network: nn.Module, inputs: tuple[Any, ...], wanted: Wanted) -> Analysis:
    """Run a network and see what its tensors carry.

    Raises:
        SpaceError: it fails, depends on the values of its input, or does not give the same twice.
    """
    # Copies run, so that nothing that modules keep from a run is seen by another, or comes into a member.
    again = copy.deepcopy(network)
    outputs, repeated = _outputs(again, inputs), _outputs(again, inputs)
    network = copy.deepcopy(network)
    pairs = zip(tree_leaves(outputs), tree_leaves(repeated), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs if isinstance(one, Tensor)):
        raise SpaceError(
            f"{type(network).__name__}: gives another output each time it is run on the same input in eval "
            "mode; take the randomness out of its forward pass"
        )
    tracer = Tracer()
    for name, parameter in network.named_parameters(remove_duplicate=False):
        tracer.know(name, parameter, carries=True)
    for name, buffer in network.named_buffers(remove_duplicate=False):
        tracer.know(name, buffer, carries=buffer.is_floating_point())
    for each in tree_leaves(inputs):
        if isinstance(each, Tensor):
            tracer.set(each, Facts((None,) * each.dim(), from_input=True))
    with sizes_known(network), blocks_watched(tracer, network) as blocks, following(tracer, network, rule_of):
        traced = network(*inputs)
    for each in tree_leaves(traced):
        tracer.fix(each, "is the network's output")
    for name in tracer.tensors:
        if wanted.excludes(name):
            for axis in tracer.tensors[name]:
                tracer.couplings.fix(axis, "is excluded")
    return Analysis(tracer, tracer.couplings.solve(), blocks, traced)


@torch.no_grad()
def _outputs(network: nn.Module, inputs: tuple[Any, ...]) -> Any:
    try:
        return network(*inputs)
    except Exception as error:  # whatever its forward pass may raise
        shapes = ", ".join(str(tuple(each.shape)) for each in tree_leaves(inputs) if isinstance(each, Tensor))
        raise SpaceError(
            f"{type(network).__name__}: the forward pass failed on inputs of {shapes}: "
            f"{type(error).__name__}: {error}; give example inputs that it takes"
        ) from error


def _choices(
    network: nn.Module, analysis: Analysis, wanted: Wanted, inputs: tuple[Any, ...]
) -> tuple[Choices, dict[str, str]]:
    """Return what may be chosen as far as one run tells, and why the rest may not."""
    tracer, solution = analysis.tracer, analysis.solution
    numbers = {f"{NUMBER}{place}": (follower.channels,) for place, follower in enumerate(tracer.followers)}
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors = {name: axes for name, axes in tracer.tensors.items() if name in held}
    groups = groups_of({**tensors, **numbers}, solution, held)
    listed: list[Choice] = _depths(network, analysis, wanted)
    left_out: dict[str, str] = {}
    for group in groups:
        values = group.widths(wanted.width, wanted.divisor)
        if len(values) == 1:
            reason = f"its {group.width} channels are too few for multiples of {wanted.divisor}"
            left_out.setdefault(group.name, reason)
            continue
        modules = {place.tensor.rpartition(".")[0] for place in group.places if place.tensor in held}
        listed.append(Choice(_free(f"{group.name}.width", listed), values, group, tuple(sorted(modules))))
    if wanted.kernel:
        listed += _kernels(network, wanted)
    listed += _ops(network, wanted)
    if wanted.resolution:
        listed += _resolutions(inputs, wanted)
    left_out |= _reasons(network, analysis, groups)
    sizes = {
        (name, at): len(axis)
        for name, axes in {**tensors, **numbers}.items()
        for at, axis in enumerate(axes)
        if axis is not None
    }
    return Choices(tuple(listed), tuple(tracer.followers), frozenset(tracer.whole_groups), sizes), left_out


def _free(name: str, listed: Sequence[Choice]) -> str:
    """Return `name`, with a number behind it where it is taken."""
    taken = {choice.name for choice in listed}
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{number}", number + 1
    return found


def _depths(network: nn.Module, analysis: Analysis, wanted: Wanted) -> list[Choice]:
    found: list[Choice] = []
    for run in runs_of(network, analysis.blocks, analysis.solution):
        kept = [block for block in run.blocks if not wanted.excludes(block)]
        least = run.least(wanted.depth) if len(kept) == len(run.blocks) else len(run.blocks)
        values = tuple(range(least, len(run.blocks) + 1))
        if len(values) > 1:
            name = f"{run.container}.depth" if run.container else "depth"
            found.append(Choice(_free(name, found), values, run))
    return found


def _kernels(network: nn.Module, wanted: Wanted) -> list[Choice]:
    found = []
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d) or wanted.excludes(name) or not name:
            continue
        height, side = module.kernel_size
        padding = module.padding
        if height != side or side < 5 or side % 2 == 0:
            continue
        if isinstance(padding, tuple) and not type(module).__name__.endswith("Same"):
            pairs = zip(padding, module.dilation, strict=True)
            if any(pad < gap * (side // 2 - 1) for pad, gap in pairs):
                continue
        found.append(Choice(f"{name}.kernel", tuple(range(3, side + 1, 2)), name, (name,)))
    return found


def _ops(network: nn.Module, wanted: Wanted) -> list[Choice]:
    if not wanted.ops:
        return []
    return [
        Choice(f"{name}.op", (*wanted.ops, STATIC), Op(name), (name,))
        for name, module in network.named_modules()
        if name and replaceable(module) and not wanted.excludes(name)
    ]


def _dynamics(network: nn.Module, choices: Choices, experts: int, seed: int) -> dict[tuple[str, str], Conv2d]:
    """Return the convolutions that may take the place of trained ones."""
    found = {}
    for place, choice in enumerate(choices.listed):
        if isinstance(choice.what, Op):
            conv = network.get_submodule(choice.what.conv)
            assert isinstance(conv, nn.Conv2d)
            for op in choice.values[:-1]:
                found[choice.what.conv, op] = begun(conv, op, experts, seed + place)
    return found


def _resolutions(inputs: tuple[Any, ...], wanted: Wanted) -> list[Choice]:
    first = inputs[0]
    if not isinstance(first, Tensor) or first.dim() != 4 or first.shape[-1] != first.shape[-2]:
        raise SpaceError("elastic: resolution is for networks of square images (B, C, H, W)")
    own = first.shape[-1]
    if larger := [side for side in wanted.resolution if side > own]:
        raise SpaceError(f"elastic: resolution has {larger[0]}, more than the {own} of the example inputs")
    return [Choice(RESOLUTION, tuple(sorted({*wanted.resolution, own})), None)]


def _reasons(network: nn.Module, analysis: Analysis, groups: Sequence[Group]) -> dict[str, str]:
    """Return why outputs of layers must stay."""
    found: dict[str, str] = {}
    for name, axes in analysis.tracer.tensors.items():
        parameter = dict(network.named_parameters()).get(name)
        if parameter is None or parameter.dim() < 2 or axes[0] is None:
            continue
        if (analysis.solution.of(axes[0]) < 0).all():
            found[name.rpartition(".")[0] or name] = ", ".join(analysis.solution.reasons(axes[0]))
    return found


def _parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def _space(
    network: nn.Module,
    choices: Choices,
    dynamics: Dynamics,
    left_out: Mapping[str, str],
    outputs: Any,
    teaches: bool,
) -> Space:
    smallest = TrainedNetwork(network, choices, NO_REPORT, dynamics=dynamics)(
        {choice.name: choice.values[0] for choice in choices.listed}
    )
    counts = (_parameters(network), _parameters(smallest))
    report = ElasticReport(
        type(network).__name__,
        {choice.name: choice.values for choice in choices.listed},
        dict(left_out),
        counts,
    )
    count = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else None
    trained = TrainedNetwork(network, choices, report, dynamics=dynamics, outputs=count, teaches=teaches)
    return Space(type(network).__name__, choices.genes(), model=trained)
