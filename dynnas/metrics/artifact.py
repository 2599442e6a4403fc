"""The answers of compiled networks: what ships is judged, beside torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynnas.candidates.candidate import Candidate
from dynnas.data.dataset import Dataset, Split
from dynnas.data.streaming.images import Images, in_batches
from dynnas.metrics.accuracy import Accuracy, accuracy, answers
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.network import Network
from dynnas.runtimes.compile import load_artifact
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.runtimes.runtime import Runner, get_runtime
from dynnas.tasks.scored import ScoredModel
from dynnas.tasks.task import Task

TOLERANCE = 1e-3
"""Largest difference of outputs in float32, relative to max(1, largest output)."""

LEAST_AGREEMENT = 0.99
"""Share of images with the same answer in float32: a tie may fall either way."""

_PREPARED = 256

SplitName = Literal["train", "search", "test"]


class Answered(NamedTuple):
    """The answers of a compiled network.

    Attributes:
        outputs: (N, ...) on the CPU.
        exits: (N,) int64, the index of the exit that each image took; None where the network does not say.
    """

    outputs: Tensor
    exits: Tensor | None


def artifact_runner(candidate: Candidate) -> Runner | None:
    """Return the compiled network of a candidate, ready to run on this machine.

    It is the one that is timed, if that is done here; of a device elsewhere it is the artifact that is sent
    there. None where its runtime is not installed here.
    """
    if not candidate.target.remote:
        runner: Runner = candidate.workload.runner  # type: ignore[assignment]
        return runner
    artifact = candidate.artifact
    if not get_runtime(artifact.runtime).can_run(artifact.device):
        return None
    return load_artifact(artifact, candidate.target.threads)


def run_artifact(
    runner: Runner, network: Network, dataset: Dataset, images: Images, batch: int = 1
) -> Answered:
    """Run a compiled network on images uint8 [N, C, H, W] of a split.

    Args:
        runner: of the artifact.
        network: that was compiled; it says how images are prepared.
        dataset: of the images.
        images: of any number; a last call that they do not fill is filled with the last image.
        batch: images in a call.
    """
    outputs: list[Tensor] = []
    exits: list[Tensor] = []
    for part in in_batches(images, max(1, _PREPARED // batch) * batch):
        _run_prepared(runner, prepare_images(network, dataset, part).cpu(), batch, outputs, exits)
    return Answered(torch.cat(outputs), torch.cat(exits) if exits else None)


def _run_prepared(
    runner: Runner, prepared: Tensor, batch: int, outputs: list[Tensor], exits: list[Tensor]
) -> None:
    """Run a compiled network on images as it takes them, and add what it says to both lists."""
    for at in range(0, len(prepared), batch):
        call = prepared[at : at + batch]
        missing = batch - len(call)
        whole = torch.cat([call, call[-1:].expand(missing, *call.shape[1:])]) if missing else call
        output, left = _call(runner, whole.numpy())
        outputs.append(torch.from_numpy(output.copy())[: len(call)])
        if left is not None:
            exits.append(torch.from_numpy(left.copy())[: len(call)])


def scored_artifact(
    runner: Runner, network: Network, dataset: Dataset, split: Split, outputs: Tensor, batch: int = 1
) -> ScoredModel:
    """Return a compiled network for its task to score: with its outputs, and able to see other images.

    Arguments are those of `run_artifact`; outputs (N, ...) are what it gave for the split.
    """

    def run(images: Tensor) -> Tensor:
        said = list[Tensor]()
        _run_prepared(runner, resize(images.cpu(), network.config.shape[1:]), batch, said, [])
        return torch.cat(said)

    def normalised(part: slice) -> Tensor:
        return dataset.normalise(split.images[part]).cpu()

    return ScoredModel(outputs, split.targets.cpu(), normalised, run)


def _call(runner: Runner, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return outputs, and exits from a runner that gives them by name."""
    by_name = getattr(runner, "outputs", None)
    if by_name is None:
        return runner(images), None
    found = by_name(images)
    return found["logits"], found.get("exit")


def artifact_accuracy(candidate: Candidate, split: SplitName = "search") -> Accuracy:
    """Measure the scores of a candidate on a split, by its compiled network where torch has no such one.

    That is a network in int8; others are computed by torch, whose answers are the same.

    What its gates decide is told by torch.

    Raises:
        TargetError: the runtime of the target is not installed here, or has no int8.
    """
    network, dataset = candidate.calibrated, candidate.dataset
    if not candidate.quantized:
        return accuracy(network, dataset, split)
    part = getattr(dataset, split)
    runner = load_artifact(candidate.artifact, candidate.target.threads)
    found = run_artifact(runner, network, dataset, part.images)
    ways = len(network.config.ways)
    gates = accuracy(network, dataset, split).gates if candidate.config.branches else None
    exits = torch.zeros(len(part), dtype=torch.int64) if found.exits is None else found.exits
    return Accuracy(
        scores=dict(dataset.task.score_model(scored_artifact(runner, network, dataset, part, found.outputs))),
        exit_shares=tuple((torch.bincount(exits, minlength=ways) / len(part)).tolist()),
        gates=gates,
    )


@dataclass(frozen=True)
class Compared:
    """The answers to a split by a compiled network, beside those of torch.

    Attributes:
        outputs: (N, ...) of the artifact, or of torch where the artifact cannot be run here.
        torch_outputs: (N, ...) of torch.
        targets: (N, ...) of the images.
    """

    outputs: Tensor
    torch_outputs: Tensor
    targets: Tensor

    def same(self, task: Task) -> Tensor:
        """Return which images have the same answer: (N,) bool."""
        return task.agrees(self.outputs, self.torch_outputs)

    def near(self, task: Task) -> Tensor:
        """Return which images have the same answer and outputs that differ by rounding alone: (N,) bool."""
        largest = float(self.torch_outputs.abs().max())
        # Not a number is near to nothing.
        close = task.difference(self.outputs, self.torch_outputs) <= TOLERANCE * max(1.0, largest)
        return close & self.same(task)


def compare_answers(candidate: Candidate, runner: Runner | None, split: SplitName) -> Compared:
    """Run the compiled network of a candidate on a split, and the network in torch.

    Args:
        candidate: of the networks.
        runner: from `artifact_runner`.
        split: of the candidate's data.
    """
    network, dataset = candidate.calibrated, candidate.dataset
    part = getattr(dataset, split)
    expected = answers(network, dataset, part).outputs.cpu()
    outputs = expected if runner is None else compiled_outputs(candidate, runner, split)
    return Compared(outputs, expected, part.targets.cpu())


def compiled_outputs(candidate: Candidate, runner: Runner | None, split: SplitName) -> Tensor:
    """Return what the compiled network of a candidate says to a split: (N, ...).

    Torch says it where there is no runner. Arguments are those of `compare_answers`.
    """
    network, dataset = candidate.calibrated, candidate.dataset
    part = getattr(dataset, split)
    if runner is None:
        return answers(network, dataset, part).outputs.cpu()
    return run_artifact(runner, network, dataset, part.images, candidate.target.batch).outputs
