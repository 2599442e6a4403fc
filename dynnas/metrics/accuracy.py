"""The accuracy of a finished network, where each image leaves at its exit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dynnas.data.dataset import Dataset, Split
from dynnas.data.streaming.images import Images, in_batches
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import leave
from dynnas.nn.gates.gate import Decision
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import left_by
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.tasks.scored import ScoredModel
from dynnas.threads import FORWARD_THREADS
from dynnas.training.batchnorm.calibrate import SCORING_BATCH


@dataclass(frozen=True)
class Accuracy:
    """The accuracy, and the share of the network that images run.

    Attributes:
        scores: of the task, by the names of its metrics; the first is the one that ranks candidates.
        exit_shares: share that leaves at each exit, then at the head.
        gates: what a gated network's images run; None for one without gates.
    """

    scores: Mapping[str, float]
    exit_shares: tuple[float, ...]
    gates: GateUse | None = None

    @property
    def top1(self) -> float:
        """Return the score by which candidates are ranked."""
        return next(iter(self.scores.values()))


class Predicted(NamedTuple):
    """The outputs of a network for images, and its decisions.

    Attributes:
        outputs: of every exit, then the head, as `Network.logits`.
        decisions: of every gate on all images, those that have left too.
        left: (N,) int64, the index of the exit by which each image leaves.
    """

    outputs: tuple[Tensor, ...]
    decisions: tuple[Decision, ...]
    left: Tensor


@torch.inference_mode()
def predict_logits(
    network: Network, dataset: Dataset, images: Images, batch: int = SCORING_BATCH
) -> tuple[Tensor, ...]:
    """Return the outputs of every exit, then of the head, for images uint8 [N, C, H, W].

    They are logits as of `Network.logits`.

    The network must be in eval mode, its batch norm calibrated.
    """
    return predict(network, dataset, images, batch)[0]


@torch.inference_mode()
def predict(network: Network, dataset: Dataset, images: Images, batch: int = SCORING_BATCH) -> Predicted:
    """Return outputs as `predict_logits` does, and the decisions of every gate on all images.

    Images that have left are included.
    """

    def run(part: Images) -> tuple[Tensor, ...]:
        x = prepare_images(network, dataset, part)
        return network.logits(x.contiguous(memory_format=torch.channels_last))  # 3 times as fast on a CPU

    batches, decided, left = [], [], []
    with FORWARD_THREADS.running(lambda: run(images[:batch])):
        for part in in_batches(images, batch):
            with tracing(network, Decision, Left) as trace:
                batches.append(run(part))
            decided.append(trace.of(Decision))
            left.append(left_by(batches[-1], network.config.exits, trace))
    return Predicted(
        tuple(torch.cat(logits) for logits in zip(*batches, strict=True)),
        tuple(Decision.joined(gate) for gate in zip(*decided, strict=True)),
        torch.cat(left),
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """The output of a network for each image of a split, where it leaves.

    Attributes:
        outputs: (N, ...), each of the exit that its image leaves at, or of the head.
        exits: (N,), the number of that exit; the head comes last.
        leaves: how many places there are to leave at.
        decided: what every gate decides.
    """

    outputs: Tensor
    exits: Tensor
    leaves: int
    decided: tuple[Decision, ...] = ()


def answers(network: Network, dataset: Dataset, split: Split) -> Answers:
    """Run `network` in float32 on a split of `dataset`; images leave by the thresholds of its config.

    The network must be in eval mode, its batch norm calibrated.
    """
    logits, decided, exits = predict(network, dataset, split.images)
    chosen, _ = leave(logits, network.config.exits)
    return Answers(chosen, exits, len(network.config.ways), decided)


def scored_model(network: Network, dataset: Dataset, split: Split, outputs: Tensor) -> ScoredModel:
    """Return a network for its task to score: with its outputs for a split, and able to see other images."""
    device = next(network.parameters()).device

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        logits = network.logits(resize(images.to(device), network.config.shape[1:]))
        return leave(logits, network.config.exits)[0]

    return ScoredModel(
        outputs,
        split.targets.to(outputs.device),
        lambda part: dataset.normalise(split.images[part].to(device)),
        run,
        SCORING_BATCH,
    )


def accuracy(
    network: Network, dataset: Dataset, split: Literal["train", "search", "test"] = "search"
) -> Accuracy:
    """Measure the scores on a split of `dataset`, by what `answers` gives."""
    part = getattr(dataset, split)
    found = answers(network, dataset, part)
    counts = torch.bincount(found.exits, minlength=found.leaves)
    return Accuracy(
        scores=dict(dataset.task.score_model(scored_model(network, dataset, part, found.outputs))),
        exit_shares=tuple((counts / len(found.exits)).tolist()),
        gates=GateUse.of(cost_of(network), found.exits, found.decided) if found.decided else None,
    )
