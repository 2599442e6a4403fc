"""Early exits around any sequence of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.exits import sureness

Confidence = Callable[[Tensor], Tensor]
"""A function that maps an output (B, ...) to the confidence in each image, (B,), from 0 to 1."""


class EarlyExits(nn.Module):
    """The stages of a network with exits behind some of them: an image leaves at the first exit that is sure
    enough.

    In training all outputs are returned, for their losses to be added. In evaluation a stage runs only the
    images that have not left, and nothing once none is left. A graph that is recorded of it (ONNX,
    `torch.export`) computes all exits and selects.

    Args:
        stages: run one after the other; the first takes the network's input.
        exits: one for each stage, from its output to an output of the network; None where there is no exit.
            The last stage needs one, which takes all images that are left.
        threshold: how sure an exit must be of an image, from 0 to 1: one for all, or one for each exit but
            the last.
        confidence: how sure an output is; by default the largest softmax over axis 1.

    Raises:
        ValueError: the last stage has no exit, or the numbers of stages, exits and thresholds differ.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        exits: Iterable[nn.Module | None],
        *,
        threshold: float | Sequence[float] = 0.8,
        confidence: Confidence = sureness,
    ) -> None:
        super().__init__()
        found = list(exits)
        self.stages = nn.ModuleList(stages)
        self.exits = nn.ModuleDict({str(at): exit for at, exit in enumerate(found) if exit is not None})
        if len(found) != len(self.stages) or not found or found[-1] is None:
            raise ValueError(
                f"{len(self.stages)} stages and {len(found)} exits; allowed: an exit or None for each stage, "
                "and an exit for the last"
            )
        early = len(self.exits) - 1
        self.thresholds = (threshold,) * early if isinstance(threshold, int | float) else tuple(threshold)
        if len(self.thresholds) != early or not all(0 <= value <= 1 for value in self.thresholds):
            raise ValueError(
                f"thresholds are {self.thresholds}; allowed: {early}, one for each exit but the last, "
                "each from 0 to 1"
            )
        self.confidence = confidence

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return in training the outputs of all exits, each (B, ...), and else the output with which each
        image leaves.
        """
        if self.training:
            return self.outputs(x)
        return self.leave(x)[0]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs (B, ...) of all exits for all images, in order."""
        found = []
        for at, stage in enumerate(self.stages):
            x = stage(x)
            if str(at) in self.exits:
                found.append(self.exits[str(at)](x))
        return tuple(found)

    def leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, ...) with which each image leaves, and the number (B,) int64 of its exit."""
        return self._select(self.outputs(x)) if is_recorded() else self._run(x)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run stage by stage the images that are left."""
        rows = torch.arange(len(x), device=x.device)
        taken = torch.zeros_like(rows)
        y: Tensor | None = None
        number = 0
        for at, stage in enumerate(self.stages):
            x = stage(x)
            if str(at) not in self.exits:
                continue
            output = self.exits[str(at)](x)
            if number == len(self.thresholds):
                leaves = torch.ones(len(output), dtype=torch.bool, device=output.device)
            else:
                leaves = self.confidence(output) >= self.thresholds[number]
            y = output.new_empty((len(taken), *output.shape[1:])) if y is None else y
            y[rows[leaves]] = output[leaves]
            taken[rows[leaves]] = number
            rows, x = rows[~leaves], x[~leaves]
            number += 1
            if not len(rows):
                break
        assert y is not None
        return y, taken

    def _select(self, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Select each image's output from those of all exits, without a branch."""
        chosen = outputs[-1]
        taken = torch.full_like(self.confidence(chosen), len(self.thresholds), dtype=torch.int64)
        for number in reversed(range(len(self.thresholds))):
            leaves = self.confidence(outputs[number]) >= self.thresholds[number]
            taken = torch.where(leaves, number, taken)
            chosen = torch.where(leaves.view(-1, *(1 for _ in chosen.shape[1:])), outputs[number], chosen)
        return chosen, taken
