"""Adaptive neural trees as heads (Tanno et al. 2019, arXiv:1807.06699)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.branching import Branching, BranchMode
from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.state import Flow

LEAF, DEEPER = ".", "t"


class NeuralTree(nn.Module):
    """A tree of layers: routers say which way an input goes, edges transform it, and leaves answer.

    Its structure is a text: `.` is a leaf, `t` before a subtree a transformation on the edge to it, and
    `(left,right)` a router with two subtrees. `(t.,.)` has a router, a leaf behind a transformation on its
    left, and a leaf on its right. The answer is the mean of the leaves' distributions by the probabilities of
    the ways to them (section 3.1), as logarithms, which are logits to any classification loss. With `hard` in
    evaluation an input goes the likelier way at each router, and only that way is run (section 3.3): a graph
    for one input has an `If` at each router.

    The paper grows a tree leaf by leaf: it is split, or made deeper, if that helps.
    `dynnas.training.grow_tree` does so. `grown` lists the structures of one such step, so that a
    space can choose among them; its networks share what stands at the same place.

    Args:
        inputs: numbers of an input. outputs: number of classes.
        structure: of the tree.
        hard: whether one leaf answers in evaluation.

    Raises:
        ValueError: the structure cannot be read.
    """

    def __init__(self, inputs: int, outputs: int, structure: str = "(.,.)", hard: bool = False) -> None:
        super().__init__()
        self.root = _subtree(inputs, outputs, structure, hard)
        self.inputs, self.hard = inputs, hard

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to the logarithms of the classes' probabilities, (B, outputs)."""
        found: Tensor = self.root(x)
        return found

    @property
    def structure(self) -> str:
        """The structure of the tree as it is now."""
        return _spelled(self.root)

    def leaves(self) -> list[str]:
        """Return the names of the leaves among the modules of the tree, from left to right."""
        return [name for name, module in self.named_modules() if isinstance(module, _Leaf)]

    def split(self, leaf: str) -> nn.Module:
        """Return a router with two copies of a leaf, by its name: it answers as the leaf does."""
        found = self.get_submodule(leaf)
        return _Split(self.inputs, copy.deepcopy(found), copy.deepcopy(found), self.hard)

    def deepen(self, leaf: str) -> nn.Module:
        """Return a copy of a leaf, by its name, behind a new transformation."""
        return _Deeper(self.inputs, copy.deepcopy(self.get_submodule(leaf)))

    def put(self, name: str, subtree: nn.Module) -> None:
        """Put a subtree in the place of the one of this name."""
        parent, _, attribute = name.rpartition(".")
        setattr(self.get_submodule(parent), attribute, subtree)


class _Leaf(nn.Module):
    """A linear layer that answers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.answer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x).log_softmax(dim=1)


class _Deeper(nn.Module):
    """A subtree behind a transformation of its input: a linear layer and a ReLU."""

    def __init__(self, inputs: int, below: nn.Module) -> None:
        super().__init__()
        self.transform, self.below = nn.Linear(inputs, inputs), below

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.below(F.relu(self.transform(x)))
        return found


class _Split(Branching):
    """A router and two subtrees."""

    def __init__(self, inputs: int, left: nn.Module, right: nn.Module, hard: bool) -> None:
        super().__init__()
        self.router = nn.Linear(inputs, 1)
        self.left, self.right, self.hard = left, right, hard

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        if not self.hard or self.training:
            logit = self.router(x)
            return torch.logaddexp(F.logsigmoid(logit) + self.left(x), F.logsigmoid(-logit) + self.right(x))
        instead = (context or self.context)[BranchMode].run
        if instead is not None:
            found = instead(self, Flow(x)).x
            assert isinstance(found, Tensor)
            return found
        goes_left = self.router(x)[:, 0] >= 0
        if is_recorded():
            return torch.where(goes_left[:, None], self.left(x), self.right(x))
        if bool(goes_left.all()):
            return self.left(x)
        if not bool(goes_left.any()):
            return self.right(x)
        left, right = self.left(x[goes_left]), self.right(x[~goes_left])
        y = left.new_empty((len(x), left.shape[1]))
        y[goes_left], y[~goes_left] = left, right
        return y

    def branches_on(self, flow: Flow) -> bool:
        return self.hard and not self.training

    def ways(self) -> int:
        return 2

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        logit = self.router(flow.x)
        return torch.cat([logit, torch.zeros_like(logit)], dim=1), flow

    def alternative(self, flow: Flow, index: int) -> Flow:
        return Flow((self.right if index else self.left)(flow.x))


def grown(structure: str) -> list[str]:
    """Return the structures that a tree can grow into by one step: each leaf split, and each made deeper."""
    places = [at for at, sign in enumerate(structure) if sign == LEAF]
    return [
        structure[:at] + wider + structure[at + 1 :]
        for at in places
        for wider in (f"({LEAF},{LEAF})", f"{DEEPER}{LEAF}")
    ]


def _subtree(inputs: int, outputs: int, structure: str, hard: bool) -> nn.Module:
    """Build the tree of a structure.

    Raises:
        ValueError: it cannot be read.
    """
    signs = iter(structure)
    tree = _read(signs, inputs, outputs, structure, hard)
    if next(signs, None) is not None:
        raise _unreadable(structure)
    return tree


def _spelled(tree: nn.Module) -> str:
    """Return the structure of a subtree."""
    if isinstance(tree, _Split):
        return f"({_spelled(tree.left)},{_spelled(tree.right)})"
    return DEEPER + _spelled(tree.below) if isinstance(tree, _Deeper) else LEAF


def _read(signs: Iterator[str], inputs: int, outputs: int, structure: str, hard: bool) -> nn.Module:
    sign = next(signs, None)
    if sign == LEAF:
        return _Leaf(inputs, outputs)
    if sign == DEEPER:
        return _Deeper(inputs, _read(signs, inputs, outputs, structure, hard))
    if sign != "(":
        raise _unreadable(structure)
    left = _read(signs, inputs, outputs, structure, hard)
    if next(signs, None) != ",":
        raise _unreadable(structure)
    right = _read(signs, inputs, outputs, structure, hard)
    if next(signs, None) != ")":
        raise _unreadable(structure)
    return _Split(inputs, left, right, hard)


def _unreadable(structure: str) -> ValueError:
    return ValueError(
        f"NeuralTree: the structure is {structure!r}; allowed: '.' for a leaf, 't' before a subtree, and "
        "'(left,right)', such as '(t.,.)'"
    )
