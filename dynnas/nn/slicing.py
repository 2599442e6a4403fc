"""Slicing rules: they say which part of a shared tensor a network's own tensor is.

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
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from dynnas.errors import SpaceError
from dynnas.nn.slices import Axis, Layout

Size = int | str
"""A number, or the name of an attribute that holds it (of the tensor's module or of one around it)."""


Split = Callable[[int, Callable[[str], Any]], tuple[Axis, ...]]
"""A function from the length of an axis, and a finder of attributes by name, to the axes as which it is
sliced.
"""


@dataclass(frozen=True)
class Rule:
    """The slicing rule of all tensors of one name; rules for several axes are combined with `&`.

    Attributes:
        splits: how an axis (counted from the end where negative) is sliced; others take the leading part.
        averaged: whether the mean is taken over leading axes that other networks have and this one lacks.
    """

    splits: tuple[tuple[int, Split], ...] = ()
    averaged: bool = False

    def __and__(self, other: Rule) -> Rule:
        return Rule((*self.splits, *other.splits), self.averaged or other.averaged)


leading = Rule()
"""The rule that takes the leading part of every axis: channels, hidden units, experts. Undeclared tensors
take it.
"""


def centre(*axes: int) -> Rule:
    """Return the rule that takes the centre of these axes, as for the kernel of a convolution."""
    return Rule(tuple((axis, _centred) for axis in axes))


def mean() -> Rule:
    """Return the rule that takes the mean over leading axes that other networks have here.

    A static kernel is the mean of a bank.
    """
    return Rule(averaged=True)


def groups(*sizes: Size, axis: int = 0) -> Rule:
    """Return the rule that sees an axis as `(*sizes, rest)`, and takes the leading part of each.

    `groups(3, "heads")` is for the fused `qkv` of attention: queries stay queries, each head keeps its own.
    """
    return Rule(((axis, partial(_grouped, sizes)),))


def parts(*sizes: Size, axis: int = 0) -> Rule:
    """Return the rule that sees an axis as consecutive parts, and takes the leading part of each.

    For what reads a concatenation: `parts("skip", "up", axis=1)`. The name may be that of a list of sizes.
    """
    return Rule(((axis, partial(_parted, sizes)),))


def indices(which: Sequence[int] | str, axis: int = 0) -> Rule:
    """Return the rule that takes these indices of the shared axis.

    The axis is as long as the largest of them asks for.

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


def lay_out(
    shape: Sequence[int], rule: Rule = leading, find: Callable[[str], Any] | None = None, **facts: Any
) -> Layout:
    """Return the layout of a tensor of `shape` under `rule`.

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
    """Return the layout of every tensor of `module` that is shared, by its name.

    These are its parameters, tied ones under their first name, and those buffers that a rule is declared for.

    Raises:
        SpaceError: a rule does not fit its tensor; the message names both.
    """
    return dict(_laid_out(module))


def places(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Yield every place in which `module` keeps a tensor: the tensor's name, and the container and key there.

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
    """Yield every module once, in the order of `named_modules`."""
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
    """Return the rule that the outermost module declares for the tensor `key` of the last one."""
    return _first(path, key, lambda module: getattr(module, "elastic", None))


def _known(path: Path, key: str) -> Rule | None:
    """Return the rule of a kind of module that torch brings."""
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
        exact = ((name, rules[name]),) if name in rules else rules.items()
        for pattern, rule in exact:
            if pattern == name or fnmatchcase(name, pattern):
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
"""The tensors that torch's own layers hold in one."""


def _rules_of_torch(module: nn.Module) -> Mapping[str, Rule] | None:
    return next((rules for kind, rules in _FUSED if isinstance(module, kind)), None)


def _find(path: Path, name: str) -> Any:
    """Return the attribute of that name of the tensor's module, or of the nearest one around it."""
    for _, module in reversed(path):
        if hasattr(module, name):
            return getattr(module, name)
    around = " in ".join(type(module).__name__ for _, module in reversed(path))
    raise SpaceError(f"no attribute {name!r} in {around}")


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
