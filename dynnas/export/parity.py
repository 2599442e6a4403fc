"""The check that an artifact gives the network's answers on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dynnas.errors import ExportError
from dynnas.export.formats.format import ModelFile
from dynnas.metrics.artifact import LEAST_AGREEMENT, TOLERANCE
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import Leaving, leave, sureness_at
from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import left_by, own_exits, says_exit
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.tasks.scored import ScoredModel
from dynnas.tasks.task import Task

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict

UNDECIDED = 1e-4
"""Distance to a threshold below which rounding decides."""


@dataclass(frozen=True)
class Answer:
    """The answers of the network to `images` (N, channels, R, R).

    Attributes:
        outputs: (N, ...) with which each image leaves.
        exits: index (N,) of the exit it leaves by, None for a network without.
        targets: (N, ...) of the images.
        task: what outputs and targets mean.
        rows: index (N,) of each image among those that torch was asked for.
        run: the network on other images, from (N, channels, R, R) to outputs (N, ...).
    """

    images: np.ndarray
    outputs: np.ndarray
    exits: np.ndarray | None
    targets: Tensor
    task: Task
    rows: np.ndarray
    run: Callable[[Tensor], Tensor]

    def score(self, outputs: np.ndarray, run: Callable[[Tensor], Tensor]) -> float:
        """Return the quality of a model by the first metric of the task.

        Args:
            outputs: of it for `images`. run: it, on other images.
        """
        images = torch.from_numpy(self.images)
        model = ScoredModel(torch.from_numpy(outputs), self.targets, images.__getitem__, run)
        return next(iter(self.task.score_model(model).values()))


@dataclass(frozen=True)
class Parity:
    """The agreement of an artifact with the network.

    Attributes:
        images: images compared.
        largest_difference: of any logit.
        agreement: share of images with the same answer, such as the class.
        exit_agreement: share of images that leave by the same exit, 1 without exits.
        score, network_score: of the artifact and of the network on these images, by the task's first metric.
    """

    images: int
    largest_difference: float
    agreement: float
    exit_agreement: float
    score: float
    network_score: float


@torch.no_grad()
def answer(network: Finished, images: Tensor, targets: Tensor, task: Task) -> Answer:
    """Ask torch, and leave out images whose exit or gate is decided by rounding.

    Raises:
        ExportError: none is left.
    """
    exits = network.config.exits
    with tracing(network, Left) as trace:
        outputs = network.logits(images)
    decided = _decided(outputs, exits) & _gates_decided(network, images)
    if isinstance(network, Cascade):
        for stage in network.members:
            own = stage.own(images)
            decided &= _decided(stage.network.logits(own), stage.network.config.exits)
            decided &= _looks_decided(stage.network, own)
    else:
        decided &= _looks_decided(network, images)
    if not decided.any():
        criterion = exits[0].criterion if exits else "confidence"
        raise ExportError(
            f"export: the {criterion} of all {len(images)} images lies on a threshold of "
            f"{[place.threshold for place in exits]}, or a gate could go either way, so what runs is chance; "
            "train the network, or take other thresholds"
        )
    chosen, taken = leave(outputs, exits)
    if own_exits(network):
        taken = left_by(outputs, exits, trace)
    return Answer(
        images=images[decided].numpy(),
        outputs=chosen[decided].numpy(),
        exits=taken[decided].numpy() if says_exit(network) else None,
        targets=targets[decided],
        task=task,
        rows=np.flatnonzero(decided.numpy()),
        run=lambda images: leave(network.logits(images), exits)[0],
    )


def _decided(outputs: Sequence[Tensor], exits: Sequence[Leaving]) -> Tensor:
    """Return which images take a path that does not depend on rounding: (B,) bool."""
    decided = torch.ones(len(outputs[-1]), dtype=torch.bool)
    for early, place in zip(outputs, exits, strict=False):
        decided &= (sureness_at(place, early) - place.threshold).abs() > UNDECIDED
    return decided


def _gates_decided(network: Finished, images: Tensor) -> Tensor:
    """Return which images (N,) all gates decide alike with a little more or less light.

    Other runtimes round differently.
    """
    with tracing(network, Decision, Left) as trace:
        for change in (1.0, 1 + UNDECIDED, 1 - UNDECIDED):
            network.logits(images * change)
    decided = [decision.choice for decision in trace.of(Decision)]
    left = [each.taken[:, None] for each in trace.of(Left)]
    alike = torch.ones(len(images), dtype=torch.bool)
    for found in (decided, left):
        each = len(found) // 3
        for first, *others in zip(found[:each], found[each : 2 * each], found[2 * each :], strict=True):
            for other in others:
                alike &= (first == other).all(dim=1)
    return alike


def _looks_decided(network: Network, images: Tensor) -> Tensor:
    """Return which images have one place for the closer look, with a little more or less light."""
    if network.config.glance is None:
        return torch.ones(len(images), dtype=torch.bool)
    places = network.looks_at(images)
    near = (network.looks_at(images * change) for change in (1 + UNDECIDED, 1 - UNDECIDED))
    return torch.stack([(other == places).all(dim=1) for other in near]).all(dim=0)


def compare(model: ModelFile, predict: Predict, expected: Answer, exact: bool = True) -> Parity:
    """Run an artifact on the images of `expected`, and compare the answers.

    Args:
        model: the file. predict: runs it. expected: the answers of the network.
        exact: whether its numbers are those of the network, up to rounding; if not, they must be numbers.

    Raises:
        ExportError: it disagrees.
    """
    batch = model.batch or len(expected.images)

    def parts_of(images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        return [predict(images[at : at + batch]) for at in range(0, len(images), batch)]

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate([part[0] for part in parts_of(images.numpy())]))

    try:
        parts = parts_of(expected.images)
    except Exception as error:  # each runtime has its own
        raise ExportError(
            f"{model.file} cannot be run on {batch} images at a time: {error}; the `forward` of a "
            "class of your own may use len(x), which a graph keeps as a number: use x.shape[0]"
        ) from error
    outputs = np.concatenate([part[0] for part in parts])
    if not exact and not np.isfinite(outputs).all():
        raise ExportError(f"{model.file} gives answers that are no numbers; nothing was kept, report it")
    reference = torch.from_numpy(expected.outputs)
    same = expected.task.agrees(torch.from_numpy(outputs), reference)
    exit_agreement = 1.0
    if expected.exits is not None:
        taken = np.concatenate([part[1] for part in parts if part[1] is not None])
        exit_agreement = float((taken == expected.exits).mean())
    parity = Parity(
        images=len(outputs),
        largest_difference=float(expected.task.difference(torch.from_numpy(outputs), reference).max()),
        agreement=same.double().mean().item(),
        exit_agreement=exit_agreement,
        score=expected.score(outputs, run),
        network_score=expected.score(expected.outputs, expected.run),
    )
    allowed = TOLERANCE * max(1.0, float(np.abs(expected.outputs).max()))
    agrees = parity.largest_difference <= allowed and parity.agreement >= LEAST_AGREEMENT
    if exact and (not agrees or parity.exit_agreement < 1):
        raise ExportError(
            f"{model.file} does not agree with the network on {parity.images} images: "
            f"largest difference of outputs {parity.largest_difference:.2g} (allowed {allowed:.2g}), "
            f"same answer for {parity.agreement:.1%}, same exit on {parity.exit_agreement:.1%}; "
            "nothing was kept, try another format"
        )
    return parity
