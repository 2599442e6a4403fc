"""`dynnas.elastic`: a trained network becomes a design space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from dynnas.errors import SpaceError, nearest
from dynnas.nn.layers.resize import sides
from dynnas.space.architecture import as_value
from dynnas.space.space import Space
from dynnas.supernet.checks import check_memory
from dynnas.supernet.conversion.analysis import Analysis, Example, Wanted, analyse, copied
from dynnas.supernet.conversion.beside import begun_modules, exit_choices, followed, gate_choices
from dynnas.supernet.conversion.blocks import Run, plain_runs, runs_of
from dynnas.supernet.conversion.choices import NUMBER, RESOLUTION, Choice, Choices
from dynnas.supernet.conversion.dynamic import OPS, STATIC, Op, replaceable
from dynnas.supernet.conversion.groups import groups_of
from dynnas.supernet.conversion.head import replace_head
from dynnas.supernet.conversion.member import Begun
from dynnas.supernet.conversion.network import TrainedNetwork
from dynnas.supernet.conversion.report import NO_REPORT, ElasticReport
from dynnas.supernet.conversion.trial import Trial


def elastic(
    module: nn.Module,
    example_inputs: Tensor | tuple[Any, ...] | Mapping[str, Any],
    *,
    width: Sequence[float] = (0.25, 0.5, 0.75),
    divisor: int = 8,
    depth: float = 0.5,
    plain_depth: bool = False,
    kernel: bool = True,
    resolution: Sequence[int | tuple[int, int]] = (),
    ops: Sequence[str] = (),
    experts: int = 4,
    gates: Sequence[float] = (),
    exits: str | Iterable[str] = (),
    thresholds: Sequence[float] = (0.5, 0.7, 0.9),
    exclude: str | Iterable[str] = (),
    classes: int | None = None,
    fresh: bool = False,
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
        example_inputs: what it is called with: images (B, C, H, W), a tuple of several inputs, or a mapping
            of those that are given by name.
        width: shares of its channels that a group may have, beside all of them.
        divisor: of numbers of channels.
        depth: the least share of the residual blocks of a run that stay, the first ones; 1 for all.
        plain_depth: whether blocks without a residual that keep their shape may be left out as well. They
            then have one width in common.
        kernel: whether square kernels from 5 on may be cut to their centre.
        resolution: smaller sizes of images that the network may get: (height, width), or the side of a
            square.
        ops: kernels that depend on the image, which ordinary convolutions may get in the place of their own:
            "condconv", "dyconv". They begin with banks whose mixture is the trained kernel.
        experts: kernels in a bank.
        gates: shares of its multiply-adds, such as 0.5, for which a block that may be left out is to be used,
            in the mean over images: a gate lets an image skip it (`dynnas.nn.Skippable`). Gates begin open.
        exits: names of modules behind which images may leave, by a pooled linear classifier
            (`dynnas.nn.EarlyExits`); for networks that give (B, classes). Exits begin unsure of every image,
            so none leaves before they are trained.
        thresholds: values of how sure an exit must be, from 0 to 1.
        exclude: names or patterns (`layer1.*`, `stem`) of modules and tensors that stay as they are.
        classes: outputs of a head that replaces the network's own, with new weights; the rest is kept.
        fresh: whether all weights are drawn again, by the `reset_parameters` of the layers: a control, which
            tells what the trained weights are worth. The choices stay, and nothing is taught by what was
            trained.
        seed: draws new weights, of a head or of all.

    Raises:
        SpaceError: the forward pass fails, depends on the values of its input, or is not deterministic; two
            parameters share their memory; the module cannot be copied; an option is not allowed; or nothing
            of it can be made elastic. The message says why.

    Example:
        space = dynnas.elastic(resnet, torch.randn(1, 3, 224, 224), exclude="conv1")
        print(space.model.report)
        front = dynnas.search(space, data=(train, search, test), limits={"latency_ms": 5})
    """
    wanted = Wanted(
        tuple(width),
        divisor,
        depth,
        kernel,
        tuple(map(as_value, resolution)),
        _names(exclude),
        tuple(ops),
        plain_depth,
        tuple(gates),
        _names(exits),
        tuple(thresholds),
    )
    example = Example.of(example_inputs)
    network = copied(module)
    _check(wanted, network)
    check_memory(type(network).__name__, module)  # copies would not share it
    analysis = analyse(network, example, wanted)
    if classes is not None:
        replace_head(network, analysis.tracer, analysis.solution, analysis.outputs, classes, seed)
        analysis = analyse(network, example, wanted)
    choices, left_out = _choices(network, analysis, wanted, example)
    begun = begun_modules(network, choices, analysis.outputs, experts, seed)
    choices, failed = Trial(network, begun, example, analysis.outputs).possible(choices)
    left_out |= failed
    if not choices.listed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:5])
        raise SpaceError(f"{type(network).__name__}: nothing of it can be made elastic: {reasons}")
    begun = begun_modules(network, choices, analysis.outputs, experts, seed)
    trained = _trained(network, choices, begun, left_out, analysis, teaches=classes is None)
    model = trained.fresh(seed) if fresh else trained
    return Space(type(network).__name__, choices.genes(), model=model)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _check(wanted: Wanted, network: nn.Module) -> None:
    if any(not 0 < share <= 1 for share in wanted.width):
        raise SpaceError(f"elastic: width is {list(wanted.width)}; allowed are shares above 0, up to 1")
    if not 0 <= wanted.depth <= 1:
        raise SpaceError(f"elastic: depth is {wanted.depth}; allowed is a share from 0 to 1")
    if wanted.divisor < 1:
        raise SpaceError(f"elastic: divisor is {wanted.divisor}; allowed are whole numbers from 1 on")
    if wrong := [op for op in wanted.ops if op not in OPS]:
        raise SpaceError(f"elastic: op {wrong[0]!r}; allowed are {', '.join(OPS)}")
    if sizes := [each for each in wanted.resolution if not _is_size(each)]:
        raise SpaceError(
            f"elastic: resolution has {sizes[0]!r}; allowed are pairs (height, width) and sides of squares, "
            "in pixels"
        )
    for name, shares in (("gates", wanted.gates), ("thresholds", wanted.thresholds)):
        if any(not 0 < share < 1 for share in shares):
            raise SpaceError(f"elastic: {name} is {list(shares)}; allowed are numbers between 0 and 1")
    known = dict(network.named_modules())
    own = [*known, *dict(network.named_parameters(remove_duplicate=False)), *dict(network.named_buffers())]
    if idle := [each for each in wanted.exclude if not any(fnmatchcase(name, each) for name in own)]:
        raise SpaceError(
            f"elastic: exclude has {idle[0]!r}, which fits no module or tensor of {type(network).__name__}"
            f"{nearest(idle[0], known)}"
        )
    if wrong := [name for name in wanted.exits if not name or name not in known]:
        raise SpaceError(
            f"elastic: exits names {wrong[0]!r}, which {type(network).__name__} does not have"
            f"{nearest(wrong[0], known)}"
        )
    if wanted.exits and not wanted.thresholds:
        raise SpaceError("elastic: thresholds is empty; give at least one number between 0 and 1")


def _is_size(given: object) -> bool:
    numbers = given if isinstance(given, tuple) and len(given) == 2 else [given]
    return all(isinstance(each, int) and each > 0 for each in numbers)


def _choices(
    network: nn.Module, analysis: Analysis, wanted: Wanted, example: Example
) -> tuple[Choices, dict[str, str]]:
    """Return what may be chosen as far as one run tells, and why the rest may not."""
    tracer, solution = analysis.tracer, analysis.solution
    numbers = {f"{NUMBER}{place}": (follower.channels,) for place, follower in enumerate(tracer.followers)}
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors = {name: axes for name, axes in tracer.tensors.items() if name in held}
    listed: list[Choice] = _depths(network, analysis, wanted)
    left_out: dict[str, str] = {}
    if wanted.gates:
        runs = runs_of(network, analysis.blocks, solution)
        found, reasons = gate_choices(runs, analysis.blocks, wanted.gates, wanted.excludes)
        listed += found
        left_out |= reasons
    if wanted.exits:
        found, reason = exit_choices(network, listed, analysis, wanted)
        listed += found
        left_out |= {"exits": reason} if reason else {}
    numbers |= {f"{NUMBER}{key}": (axis,) for key, axis in followed(listed, analysis.blocks).items()}
    groups = groups_of({**tensors, **numbers}, solution, held)
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
        listed += _resolutions(example, wanted)
    left_out |= _reasons(network, analysis)
    left_out |= _plain(network, analysis, listed)
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


def _resolutions(example: Example, wanted: Wanted) -> list[Choice]:
    first = example.inputs[0] if example.inputs else None
    if not isinstance(first, Tensor) or first.dim() != 4:
        raise SpaceError("elastic: resolution is for networks of images (B, C, H, W)")
    height, width = first.shape[-2:]
    for given in wanted.resolution:
        high, wide = sides(given)
        if high > height or wide > width:
            raise SpaceError(
                f"elastic: resolution has {given}, more than the {height} x {width} of the example inputs"
            )
    sizes = {sides(each) for each in wanted.resolution} | {(height, width)}
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return [Choice(RESOLUTION, tuple(high if high == wide else (high, wide) for high, wide in ordered), None)]


def _reasons(network: nn.Module, analysis: Analysis) -> dict[str, str]:
    """Return why outputs of layers must stay."""
    found: dict[str, str] = {}
    parameters = dict(network.named_parameters())
    for name, axes in analysis.tracer.tensors.items():
        owner = name.rpartition(".")[0]
        out = axes[:1]
        if owner and getattr(network.get_submodule(owner), "transposed", False):
            out = axes[1:2]
        parameter = parameters.get(name)
        whole = name in analysis.tracer.whole_groups
        if parameter is None or parameter.dim() < 2 or out[0] is None or whole:
            continue
        if (analysis.solution.of(out[0]) < 0).all():
            found[owner or name] = ", ".join(analysis.solution.reasons(out[0]))
    return found


def _plain(network: nn.Module, analysis: Analysis, listed: Sequence[Choice]) -> dict[str, str]:
    """Return why blocks that keep their shape must stay."""
    taken = {choice.name for choice in listed}
    gone = [choice.what for choice in listed if isinstance(choice.what, Run)]
    runs = plain_runs(network, analysis.blocks, gone)
    return {
        name: f"{', '.join(blocks)}: nothing adds the input to the output, so what a trained block makes "
        "would be lost; plain_depth=True lets them be left out all the same"
        for container, blocks in runs.items()
        if (name := f"{container}.depth" if container else "depth") not in taken
    }


def _parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def _trained(
    network: nn.Module,
    choices: Choices,
    begun: Begun,
    left_out: Mapping[str, str],
    analysis: Analysis,
    teaches: bool,
) -> TrainedNetwork:
    smallest = TrainedNetwork(network, choices, NO_REPORT, begun=begun)(
        {choice.name: choice.values[0] for choice in choices.listed}
    )
    counts = (_parameters(network), _parameters(smallest))
    report = ElasticReport(
        type(network).__name__,
        {choice.name: choice.values for choice in choices.listed},
        dict(left_out),
        counts,
    )
    outputs = analysis.outputs
    count = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() in (2, 4) else None
    return TrainedNetwork(
        network, choices, report, begun=begun, outputs=count, teaches=teaches, states=analysis.states
    )
