"""Slicing rules: which part of a shared tensor a network's own tensor is.

A module declares rules for its tensors in `elastic`, by patterns of their names (a class attribute, or one of
the instance):

    class Attention(nn.Module):
        elastic = {"qkv.*": groups(3, "heads")}

What nothing is declared for takes the leading part of every axis. Two kinds of module that torch brings are
known beside that: a convolution's kernel axes take the centre, and what attention and recurrent layers of
torch have fused is sliced group by group. The module that owns a tensor decides, never its number of axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dynnas.errors import SpaceError

Size = int | str
"""A number, or the name of an attribute that holds it (of the tensor's module or of one around it)."""


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: its parts, each of which is cut out of a part of the shared axis.

    Attributes:
        parts: the sizes of its parts; most axes have one.
        centred: whether it takes the centre of the shared axis instead of its beginning.
        picked: the indices that it takes, where they are listed.
    """

    parts: tuple[int, ...]
    centred: bool = False
    picked: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """The length of the axis."""
        return sum(self.parts)


Split = Callable[[int, Callable[[str], Any]], tuple[Axis, ...]]
"""Turns the length of an axis, and what finds attributes by name, into the axes as which it is sliced."""


@dataclass(frozen=True)
class Rule:
    """How the tensors of one name are sliced; rules for several axes are combined with `&`.

    Attributes:
        splits: how an axis (counted from the end where negative) is sliced; others take the leading part.
        averaged: whether the mean is taken over leading axes that other networks have and this one lacks.
    """

    splits: tuple[tuple[int, Split], ...] = ()
    averaged: bool = False

    def __and__(self, other: Rule) -> Rule:
        return Rule((*self.splits, *other.splits), self.averaged or other.averaged)


leading = Rule()
"""The leading part of every axis: channels, hidden units, experts. It is what undeclared tensors take."""


def centre(*axes: int) -> Rule:
    """The centre of these axes, as for the kernel of a convolution."""
    return Rule(tuple((axis, _centred) for axis in axes))


def mean() -> Rule:
    """The mean over leading axes that other networks have here: a static kernel is the mean of a bank."""
    return Rule(averaged=True)


def groups(*sizes: Size, axis: int = 0) -> Rule:
    """An axis that is seen as `(*sizes, rest)`, each of which takes its leading part.

    `groups(3, "heads")` is for the fused `qkv` of attention: queries stay queries, each head keeps its own.
    """
    return Rule(((axis, partial(_grouped, sizes)),))


def parts(*sizes: Size, axis: int = 0) -> Rule:
    """An axis that is made of parts one after the other, each of which takes the leading part of its own.

    For what reads a concatenation: `parts("skip", "up", axis=1)`. The name may be that of a list of sizes.
    """
    return Rule(((axis, partial(_parted, sizes)),))


def indices(which: Sequence[int] | str, axis: int = 0) -> Rule:
    """These indices of the shared axis, which is as long as the largest of them asks for.

    `which` is a list or the name of an attribute that holds one.
    """
    return Rule(((axis, partial(_picked, which if isinstance(which, str) else tuple(which))),))


def _centred(size: int, find: Callable[[str], Any]) -> tuple[Axis, ...]:
    return (Axis((size,), centred=True),)


def _grouped(sizes: tuple[Size, ...], size: int, find: Callable[[str], Any]) -> tuple[Axis, ...]:
    found = [int(find(each)) if isinstance(each, str) else each for each in sizes]
    product = math.prod(found)
    if product < 1 or size % product:
        raise SpaceError(f"an axis of {size} cannot be seen as groups of {' x '.join(map(str, found))}")
    return tuple(Axis((each,)) for each in (*found, size // product))


def _parted(sizes: tuple[Size, ...], size: int, find: Callable[[str], Any]) -> tuple[Axis, ...]:
    found: list[int] = []
    for each in sizes:
        value = find(each) if isinstance(each, str) else each
        found += [int(value)] if isinstance(value, int) else map(int, value)
    if sum(found) != size:
        raise SpaceError(f"an axis of {size} is not made of parts of {' + '.join(map(str, found))}")
    return (Axis(tuple(found)),)


def _picked(which: str | tuple[int, ...], size: int, find: Callable[[str], Any]) -> tuple[Axis, ...]:
    listed = tuple(map(int, find(which) if isinstance(which, str) else which))
    if len(listed) != size or min(listed, default=0) < 0:
        raise SpaceError(f"an axis of {size} cannot have the {len(listed)} indices {list(listed)}")
    return (Axis((max(listed, default=-1) + 1,), picked=listed),)


@dataclass(frozen=True)
class Layout:
    """A tensor as it is sliced.

    Attributes:
        shape: its own shape.
        axes: its axes as they are sliced: an axis of groups counts as several.
        averaged: whether the mean may be taken over leading axes that it lacks.
        declared: whether a rule was declared for it; `owner` is the class of the module that has it.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    averaged: bool = False
    declared: bool = True
    owner: type = nn.Module

    @property
    def logical(self) -> tuple[int, ...]:
        """The shape of the shared tensor that just holds this one."""
        return tuple(axis.size for axis in self.axes)


def lay_out(
    shape: Sequence[int], rule: Rule = leading, find: Callable[[str], Any] | None = None, **facts: Any
) -> Layout:
    """The layout of a tensor of `shape` under `rule`.

    Raises:
        SpaceError: the rule does not fit the shape.
    """
    splits: dict[int, Split] = {}
    for axis, split in rule.splits:
        if not -len(shape) <= axis < len(shape):
            raise SpaceError(f"there is no axis {axis} in a shape of {len(shape)} axes")
        splits[axis % len(shape)] = split
    axes: list[Axis] = []
    for number, size in enumerate(shape):
        split_axis = splits.get(number)
        axes += split_axis(size, find or _nothing) if split_axis else (Axis((size,)),)
    return Layout(tuple(shape), tuple(axes), rule.averaged, **facts)


def _nothing(name: str) -> Any:
    raise SpaceError(f"nothing has an attribute {name!r}")


def layouts(module: nn.Module) -> dict[str, Layout]:
    """The layout of every tensor of `module` that is shared, by its name.

    These are its parameters, tied ones under their first name, and those buffers that a rule is declared for.

    Raises:
        SpaceError: a rule does not fit its tensor; the message names both.
    """
    return dict(_laid_out(module))


def places(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Every place in which `module` keeps a tensor: the tensor's name, and the container and key there.

    A tied parameter has several places and one name.
    """
    names: dict[int, str] = {}
    for prefix, part in module.named_modules():
        for owner in (part._parameters, part._buffers):
            for key, tensor in owner.items():
                if tensor is not None:
                    yield names.setdefault(id(tensor), _joined(prefix, key)), owner, key
        if isinstance(part, nn.RNNBase):  # it keeps its weights a second time, in the order of its kernels
            for number, key in enumerate(part._flat_weights_names):
                if (tensor := part._parameters.get(key)) is not None:
                    yield names[id(tensor)], part._flat_weights, number


def _laid_out(module: nn.Module) -> Iterator[tuple[str, Layout]]:
    seen: set[int] = set()
    for path in _paths(module):
        owner = path[-1][1]
        prefix = ".".join(step for step, _ in path if step)
        for key, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            if tensor is None or id(tensor) in seen:
                continue
            declared = _declared(path, key)
            if key in owner._buffers and declared is None:
                continue
            seen.add(id(tensor))
            rule = declared if declared is not None else _known(path, key)
            name = _joined(prefix, key)
            facts = {"declared": declared is not None or rule is not None, "owner": type(owner)}
            rule = rule or leading
            try:
                yield name, lay_out(tuple(tensor.shape), rule, partial(_find, path), **facts)
            except SpaceError as error:
                raise SpaceError(
                    f"{type(module).__name__}: {name}, of shape {tuple(tensor.shape)}: {error}; "
                    f"correct what `elastic` declares for it"
                ) from error


Path = tuple[tuple[str, nn.Module], ...]
"""A module behind those around it, the outermost first, each with its name in the one before."""


def _paths(module: nn.Module) -> Iterator[Path]:
    """Every module once, in the order of `named_modules`."""
    seen: set[int] = set()

    def walk(path: Path) -> Iterator[Path]:
        own = path[-1][1]
        if id(own) in seen:
            return
        seen.add(id(own))
        yield path
        for name, child in own._modules.items():
            if child is not None:
                yield from walk((*path, (name, child)))

    return walk((("", module),))


def _declared(path: Path, key: str) -> Rule | None:
    """The rule that the outermost module declares for the tensor `key` of the last one."""
    return _first(path, key, lambda module: getattr(module, "elastic", None))


def _known(path: Path, key: str) -> Rule | None:
    """The rule of a kind of module that torch brings."""
    owner = path[-1][1]
    if isinstance(owner, _ConvNd) and key == "weight":
        return centre(*range(2, owner.weight.ndim))
    return _first(path, key, _rules_of_torch)


def _first(path: Path, key: str, rules_of: Callable[[nn.Module], object]) -> Rule | None:
    for depth, (_, module) in enumerate(path):
        rules = rules_of(module)
        if not isinstance(rules, Mapping):
            continue
        name = ".".join([*(step for step, _ in path[depth + 1 :]), key])
        for pattern, rule in rules.items():
            if fnmatchcase(name, pattern):
                if not isinstance(rule, Rule):
                    raise SpaceError(
                        f"{type(module).__name__}.elastic[{pattern!r}] is {rule!r}; allowed are the rules of "
                        "dynnas.nn.slicing: leading, centre, mean, groups, parts, indices"
                    )
                return rule
    return None


_FUSED: tuple[tuple[type[nn.Module], Mapping[str, Rule]], ...] = (
    (
        nn.MultiheadAttention,
        {
            "in_proj_*": groups(3, "num_heads"),
            "[qkv]_proj_weight": groups("num_heads"),
            "bias_[kv]": groups("num_heads", axis=2),
            "out_proj.weight": groups("num_heads", axis=1),
        },
    ),
    (nn.LSTM, {"weight_[ih]h*": groups(4), "bias_*": groups(4)}),
    (nn.LSTMCell, {"weight_*": groups(4), "bias_*": groups(4)}),
    (nn.GRU, {"weight_*": groups(3), "bias_*": groups(3)}),
    (nn.GRUCell, {"weight_*": groups(3), "bias_*": groups(3)}),
)
"""What torch's own layers hold in one tensor."""


def _rules_of_torch(module: nn.Module) -> Mapping[str, Rule] | None:
    return next((rules for kind, rules in _FUSED if isinstance(module, kind)), None)


def _find(path: Path, name: str) -> Any:
    """The attribute of that name of the tensor's module, or of the nearest one around it."""
    for _, module in reversed(path):
        if hasattr(module, name):
            return getattr(module, name)
    around = " in ".join(type(module).__name__ for _, module in reversed(path))
    raise SpaceError(f"no attribute {name!r} in {around}")


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


@dataclass(frozen=True)
class Slice:
    """How to get a network's own tensor from the shared one.

    Attributes:
        index: what to keep of each axis of the shared tensor; None for all of it.
        picks: for axes of several parts or of listed indices, what to take of them.
        averaged: how many of the first axes the mean is taken over.
        shape: the tensor's own shape, where axes of groups are to be joined.
    """

    index: tuple[slice, ...] | None
    averaged: int = 0
    picks: tuple[tuple[int, tuple[int, ...]], ...] = ()
    shape: tuple[int, ...] | None = None

    def of(self, shared: Tensor) -> Tensor:
        """The part of `shared`: a view, unless parts are joined or a mean is taken."""
        part = shared
        if self.index is not None:
            several = sum(each != slice(None) for each in self.index) > 1
            learns = several and torch.is_grad_enabled()
            part = _Take.apply(shared, self.index) if learns else shared[self.index]
        for axis, picked in self.picks:
            part = part.index_select(axis, torch.tensor(picked, device=part.device))
        if self.averaged:
            part = part.mean(tuple(range(self.averaged)))
        return part if self.shape is None else part.reshape(self.shape)


class _Take(torch.autograd.Function):
    """A tensor's part by slices, whose gradient is made in one piece: torch's own makes one for each axis."""

    @staticmethod
    def forward(ctx: Any, shared: Tensor, index: tuple[slice, ...]) -> Tensor:
        ctx.shape, ctx.index = shared.shape, index
        return shared[index]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        whole = gradient.new_zeros(ctx.shape)
        whole[ctx.index] = gradient
        return whole, None


def slice_of(room: Sequence[Axis], layout: Layout) -> Slice:
    """How a tensor of `layout` is cut out of a shared one whose axes are `room`.

    Raises:
        SpaceError: it does not fit.
    """
    missing = len(room) - len(layout.axes)
    own = ((),) * max(missing, 0) + tuple(_taken(have, want) for have, want in _pairs(room, layout))
    if missing < 0 or (missing and not layout.averaged) or None in own:
        shared = tuple(axis.size for axis in room)
        raise SpaceError(f"shape {layout.shape} is no slice of the shared shape {shared}")
    index, picks = [], []
    for number, (axis, taken) in enumerate(zip(room, own, strict=True)):
        start, stop = (taken[0], taken[-1] + 1) if taken else (0, 0 if number >= missing else axis.size)
        if taken and tuple(range(start, stop)) != taken:
            picks.append((number, taken))
            start, stop = 0, axis.size
        index.append(slice(None) if (start, stop) == (0, axis.size) else slice(start, stop))
    whole = all(part == slice(None) for part in index)
    joined = layout.shape if layout.shape != lengths(layout) else None
    return Slice(None if whole else tuple(index), missing, tuple(picks), joined)


def _pairs(room: Sequence[Axis], layout: Layout) -> Iterator[tuple[Axis, Axis]]:
    count = len(layout.axes)
    return zip(room[len(room) - count :] if count else (), layout.axes, strict=False)


def lengths(layout: Layout) -> tuple[int, ...]:
    """The shape of a tensor whose axes of groups are seen as several."""
    return tuple(axis.size if axis.picked is None else len(axis.picked) for axis in layout.axes)


def grid(room: Sequence[Axis], layout: Layout) -> tuple[Tensor, ...]:
    """The indices of the shared tensor that a tensor of `layout` takes, one for every axis of `room`.

    They broadcast; over leading axes that the tensor lacks it takes the first.
    """
    missing = len(room) - len(layout.axes)
    taken = [(0,)] * missing + [_taken(have, want) or () for have, want in _pairs(room, layout)]
    count = len(taken)
    return tuple(
        torch.tensor(one, dtype=torch.long).reshape([-1 if at == axis else 1 for at in range(count)])
        for axis, one in enumerate(taken)
    )


def _taken(have: Axis, want: Axis) -> tuple[int, ...] | None:
    """The indices of an axis of the shared tensor that another one takes; None where it does not fit."""
    if len(have.parts) != len(want.parts) or any(b > a for a, b in zip(have.parts, want.parts, strict=True)):
        return None
    if want.picked is not None:
        return want.picked
    found: list[int] = []
    begin = 0
    for room, size in zip(have.parts, want.parts, strict=True):
        start = begin + ((room - size) // 2 if want.centred else 0)
        found += range(start, start + size)
        begin += room
    return tuple(found)


def joined_room(held: Sequence[Axis] | None, layout: Layout) -> tuple[Axis, ...]:
    """The axes of a shared tensor that holds what `held` does, and a tensor of `layout`.

    Raises:
        SpaceError: they are sliced in different ways.
    """
    new = tuple(replace(axis, picked=None) for axis in layout.axes)
    if held is None:
        return new
    axes = max(len(held), len(new))
    padded = [(Axis((1,)),) * (axes - len(each)) + tuple(each) for each in (held, new)]
    room = []
    for number, (a, b) in enumerate(zip(*padded, strict=True)):
        if min(len(held), len(new)) >= axes - number and (
            len(a.parts) != len(b.parts) or a.centred != b.centred
        ):
            raise SpaceError(f"two networks slice axis {number} of {axes} in different ways")
        room.append(Axis(tuple(map(max, a.parts, b.parts)), a.centred or b.centred))
    return tuple(room)
