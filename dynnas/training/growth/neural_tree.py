"""Adaptive neural trees that grow while they are trained (Tanno et al. 2019, arXiv:1807.06699)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dynnas.errors import TrainingError
from dynnas.nn.trees.neural_tree import NeuralTree
from dynnas.tasks.task import Task
from dynnas.training.batches import Batches, LoaderBatches
from dynnas.training.trainer import Trainer

Data = Batches | Iterable[tuple[Any, Any]]
"""A source of batches: by their place in a training, or any iterable of pairs (inputs, targets)."""


@dataclass(frozen=True)
class Step:
    """A leaf that was tried in other forms, and what became of it.

    Attributes:
        structure: of the tree afterwards.
        choice: what was done.
        before, split, deepen: the mean validation losses of the leaf, and with each of both in its place.
    """

    structure: str
    choice: Literal["split", "deepen", "keep"]
    before: float
    split: float
    deepen: float


def grow_tree(
    network: nn.Module,
    task: Task,
    data: Data,
    validation: Data,
    *,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    epochs: int,
    refine_epochs: int = 0,
    levels: int = 5,
    gain: float = 0.0,
    seed: int = 0,
) -> list[Step]:
    """Train a network whose head is a `NeuralTree`, and let the tree grow leaf by leaf.

    First the network is trained as it is. Then each leaf, level by level, is tried in two other forms, split
    and behind a transformation, in which only what is new is trained and all else stands still. The form with
    the least validation loss stays; a leaf that neither helps is kept, and not tried again. The growth ends
    where a level brought nothing. At last everything is trained together. A new leaf begins as a copy of the
    one in whose place it stands.

    Args:
        network: has one `NeuralTree` inside. It is trained in place and left in evaluation mode.
        task: what outputs and targets mean.
        data: for the weights. validation: for the choices.
        optimizer: makes one of some parameters, such as `partial(torch.optim.Adam, lr=0.01)`.
        epochs: passes over the data of each form of a leaf, and before the growth.
        refine_epochs: passes afterwards.
        levels: how often the leaves that were new are tried.
        gain: by how much the validation loss must fall.
        seed: of all draws.

    Returns:
        What was done, in order. `NeuralTree.structure` is what the tree has become.

    Raises:
        TrainingError: the network has no `NeuralTree`, or several; or a loss is not finite.
    """
    trees = [module for module in network.modules() if isinstance(module, NeuralTree)]
    if len(trees) != 1:
        raise TrainingError(f"grow_tree: the network has {len(trees)} NeuralTrees; allowed: one")
    growth = _Growth(network, trees[0], task, data, validation, optimizer, seed)
    growth.train(list(network.parameters()), epochs)
    steps: list[Step] = []
    new = trees[0].leaves()
    for _ in range(levels):
        further: list[str] = []
        for leaf in new:
            step, under = growth.widen(leaf, epochs, gain)
            steps.append(step)
            further += under
        new = further
        if not new:
            break
    growth.train(list(network.parameters()), refine_epochs)
    network.eval()
    return steps


class _Growth:
    """A network and all that it is trained and judged by."""

    def __init__(
        self, network: nn.Module, tree: NeuralTree, task: Task, data: Data, validation: Data,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer], seed: int,
    ) -> None:  # fmt: skip
        self.network, self.tree, self.task, self.data = network, tree, task, data
        self.validation = (
            validation if isinstance(validation, Batches) else LoaderBatches(validation, seed, "cpu")
        )
        self.optimizer, self.seed = optimizer, seed

    def widen(self, leaf: str, epochs: int, gain: float) -> tuple[Step, list[str]]:
        """Try both forms of a leaf, leave the best one in its place, and name the leaves that are new."""
        old, before, buffers = self.tree.get_submodule(leaf), self.loss(), self._buffers()
        tried: dict[str, tuple[nn.Module, dict[str, Tensor], float]] = {}
        for choice, subtree in (("split", self.tree.split(leaf)), ("deepen", self.tree.deepen(leaf))):
            self.tree.put(leaf, subtree)
            self.train(list(subtree.parameters()), epochs)
            tried[choice] = (subtree, self._buffers(), self.loss())
            self._restore(buffers)
        split, deepen = tried["split"][2], tried["deepen"][2]
        best: Literal["split", "deepen"] = "deepen" if deepen < split else "split"
        subtree, buffers_of_best, loss = tried[best]
        if before - loss <= gain:
            self.tree.put(leaf, old)
            return Step(self.tree.structure, "keep", before, split, deepen), []
        self.tree.put(leaf, subtree)
        self._restore(buffers_of_best)
        below = [f"{leaf}.left", f"{leaf}.right"] if best == "split" else [f"{leaf}.below"]
        return Step(self.tree.structure, best, before, split, deepen), below

    def train(self, parameters: list[nn.Parameter], epochs: int) -> None:
        """Train these parameters alone."""
        if not epochs:
            return
        self.seed += 1
        with _standing_still(self.network, parameters):
            made = self.optimizer(parameters)
            Trainer(self.network, self.task, self.data, optimizer=made, epochs=epochs, seed=self.seed).fit()

    @torch.no_grad()
    def loss(self) -> float:
        """Return the mean loss of the validation data."""
        self.network.eval()
        total, count = 0.0, 0
        for index in range(self.validation.steps_per_epoch):
            inputs, targets = self.validation.batch(0, index)
            losses = self.task.step(self.network, (inputs, targets))
            total, count = total + float(losses.sum()), count + len(losses)
        return total / count

    def _buffers(self) -> dict[str, Tensor]:
        """Return copies of what no gradient trains, such as statistics of batch norms."""
        return {name: value.clone() for name, value in self.network.named_buffers()}

    def _restore(self, buffers: dict[str, Tensor]) -> None:
        for name, value in self.network.named_buffers():
            value.copy_(buffers[name])


@contextmanager
def _standing_still(network: nn.Module, trained: list[nn.Parameter]) -> Iterator[None]:
    """Let only some parameters of a network have gradients meanwhile."""
    before = {parameter: parameter.requires_grad for parameter in network.parameters()}
    keep = set(trained)
    for parameter in before:
        parameter.requires_grad_(parameter in keep and before[parameter])
    try:
        yield
    finally:
        for parameter, had in before.items():
            parameter.requires_grad_(had)
