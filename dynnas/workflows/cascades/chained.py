"""The answers of the networks of chains to the images of a split, their costs, and the scores of chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dynnas.data.dataset import Split
from dynnas.errors import StudyError, TaskError
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.layers.resize import resize
from dynnas.pareto.front import ScoredArchitecture
from dynnas.progress import Progress
from dynnas.runtimes.chaining import Answering, chain
from dynnas.study.predictions import Predictions, Source, predictions
from dynnas.tasks.scored import ScoredModel

HELD = 2**30
"""Bytes of outputs that are held; those of three networks are in any case, the others are read again."""

_LONGEST = 3


@dataclass(frozen=True)
class Said:
    """The answers of a network to the images of a split, as far as a chain is known from them.

    Attributes:
        confidence: (N,) float32, by which an image leaves.
        quality: (N,) float64, how good each answer is, from 0 to 1.
        exits: (N,) int64, the exit by which it left the network itself.
        macs: (N,) float64, what it cost.
    """

    confidence: np.ndarray
    quality: np.ndarray
    exits: np.ndarray
    macs: np.ndarray


@dataclass(frozen=True)
class Chained:
    """The networks of a front on one split, in one shape of answers.

    Attributes:
        sources: of the networks' predictions, by number.
        split: the name of the split. answering: what all of them answer.
        progress: told of predictions that are made.
    """

    sources: Sequence[Source]
    split: Literal["search", "test"]
    answering: Answering
    progress: Progress
    _outputs: dict[int, Tensor] = field(default_factory=dict)
    _said: dict[int, Said] = field(default_factory=dict)

    @property
    def images(self) -> Split:
        """Return the images and their targets."""
        found: Split = getattr(self.sources[0].study.dataset, self.split)
        return found

    def said(self, rows: Sequence[int]) -> dict[int, Said]:
        """Return what some networks say, by their numbers."""
        with self.progress.task(f"what networks say of the {self.split} split", total=len(rows)) as task:
            for row in rows:
                if row not in self._said:
                    self._said[row] = self._judged(row)
                task.advance(note=self.sources[row].key)
        return {row: self._said[row] for row in rows}

    def _judged(self, row: int) -> Said:
        made = self._predicted(row)
        outputs, task = self._in_shape(row, made), self.answering.task
        targets = self.images.targets.cpu()
        return Said(
            task.confidence(outputs).numpy(), task.quality(outputs, targets).double().numpy(),
            made.exits, made.macs,
        )  # fmt: skip

    def _predicted(self, row: int) -> Predictions:
        return predictions(self.sources[row], self.split, self.progress)

    def outputs(self, row: int) -> Tensor:
        """Return the outputs (N, ...) of a network, in the shape of all."""
        if row in self._outputs:
            self._outputs[row] = self._outputs.pop(row)  # the latest to be dropped
            return self._outputs[row]
        return self._in_shape(row, self._predicted(row))

    def _in_shape(self, row: int, made: Predictions) -> Tensor:
        found = self.answering(torch.from_numpy(made.outputs))
        self._outputs[row] = found
        while len(self._outputs) > _LONGEST and sum(each.nbytes for each in self._outputs.values()) > HELD:
            del self._outputs[next(iter(self._outputs))]
        return found

    def score(
        self, rows: Sequence[int], thresholds: Sequence[float] = (), stage: np.ndarray | None = None
    ) -> Mapping[str, float]:
        """Return the scores of a chain by the task's metrics, or of a network alone.

        Args:
            rows: the networks. thresholds: between them.
            stage: (N,) int, which of them answers an image.
        """
        outputs = self.outputs(rows[0])
        if stage is not None:
            outputs, number = outputs.clone(), torch.from_numpy(stage)
            for place, row in enumerate(rows[1:], start=1):
                outputs[number == place] = self.outputs(row)[number == place]
        dataset, images = self.sources[0].study.dataset, self.images

        @torch.inference_mode()
        def run(other: Tensor) -> Tensor:
            sources = [self.sources[row] for row in rows]
            networks = [source.network() for source in sources]
            names = [source.key for source in sources]
            made = chain(networks, thresholds, names, dataset.size, self.answering)
            said: Tensor = made(resize(other.to(next(made.parameters()).device), made.config.shape[1:]))
            return said

        model = ScoredModel(
            outputs, images.targets.cpu(), lambda part: dataset.normalise(images.images[part]), run
        )
        return {name: float(value) for name, value in self.answering.task.score_model(model).items()}


def check_task(source: Source, progress: Progress) -> None:
    """Check that the task of a study says how sure and how good an answer is, on that of one network.

    Raises:
        StudyError: it does not.
    """
    study, made = source.study, predictions(source, "search", progress)
    output = torch.from_numpy(made.outputs[:1])
    try:
        study.dataset.task.confidence(output)
        study.dataset.task.quality(output, study.dataset.search.targets[:1].cpu())
    except TaskError as error:
        raise StudyError(
            f"{study.name}: an image leaves a cascade where a network is sure enough; {error}"
        ) from error


def milliseconds(member: ScoredArchitecture) -> float:
    """Return the mean over images, as the finished front has it."""
    return member.metrics["mean_ms"]


def by_way(member: ScoredArchitecture, config: NetworkConfig, known: Mapping[str, Any] | None) -> np.ndarray:
    """Return the milliseconds by each exit and by the head.

    They are of each if `dynnas latency` timed them, else the mean.
    """
    mean = milliseconds(member)
    ways = len(config.ways)
    if ways == 1 or known is None or len(known["ways"]) != ways:  # gates make more ways than exits
        return np.full(ways, mean)
    return np.array([mean if way["mean_ms"] is None else way["mean_ms"] for way in known["ways"]])
