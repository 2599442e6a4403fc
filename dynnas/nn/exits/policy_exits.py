"""Early exits whose policies learn to stop (Chen et al. 2020, arXiv:2006.05082)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import PLAIN, Context
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.exits.exits import ExitPolicy

STOP = 0.5
"""Probability of stopping from which on an image leaves."""


@dataclass(frozen=True)
class Stops:
    """The policies of a batch in training.

    Attributes:
        logits: (B, exits), how likely each exit but the last is to stop images that get there.
    """

    logits: Tensor


class PolicyExits(EarlyExits):
    """Exits of a classifier, each but the last with a small policy that says whether images stop there.

    A policy reads how much its exit doubts (`Task.doubt`), and says with which probability an image that gets
    there stops; in evaluation it leaves where that is at least the threshold. `exit_policy` in training
    teaches policies when to stop, with a price for what is run, and disturbs nothing else. All else is as in
    `EarlyExits`; exits of space files have such policies by the criterion `policy`.

    Args:
        stages, exits: as in `EarlyExits`; outputs are logits (B, outputs).
        outputs: number of classes.
        threshold: the probability from which on an image leaves, as in `EarlyExits`.

    Raises:
        ValueError: stages, exits and thresholds are not as `EarlyExits` takes them.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        exits: Iterable[nn.Module | None],
        outputs: int,
        *,
        threshold: float = STOP,
    ) -> None:
        found = list(exits)
        last = len(found) - 1
        judged = [
            None if each is None else _Judged(each, None if at == last else ExitPolicy(outputs))
            for at, each in enumerate(found)
        ]
        super().__init__(stages, judged, threshold=threshold, confidence=policy)

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor | tuple[Tensor, ...]:
        """Return in training the outputs of all exits, each (B, outputs), else that of each image's exit."""
        found = super().forward(x, context=context)
        if isinstance(found, Tensor):
            return found[:, :-1]
        trace = (context or self.context or PLAIN).trace
        if trace is not None and len(found) > 1 and trace.wants(Stops):
            trace.record(Stops(torch.stack([output[:, -1] for output in found[:-1]], dim=1)))
        return tuple(output[:, :-1] for output in found)


def policy(output: Tensor) -> Tensor:
    """Return the probability of stopping, (B,), by what an exit and its policy say, (B, outputs + 1)."""
    return output[:, -1].sigmoid()


class _Judged(nn.Module):
    """An exit, and its policy's logit as one more column; without a policy the column is 0."""

    def __init__(self, exit: nn.Module, policy: nn.Module | None) -> None:
        super().__init__()
        self.exit, self.policy = exit, policy

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.exit(x)
        stop = logits[:, :1] * 0 if self.policy is None else self.policy(logits)
        return torch.cat([logits, stop], dim=1)


def log_stops(logits: Tensor) -> Tensor:
    """Return the logarithms of the probabilities of leaving at each exit, (B, exits + 1), the last included.

    With the probability p_k of stopping at exit k, an image leaves there with p_k (1 - p_1) .. (1 - p_k-1).

    Args:
        logits: of p_k, (B, exits).
    """
    passed = F.logsigmoid(-logits).cumsum(1)
    before = F.pad(passed[:, :-1], (1, 0))
    return torch.cat([before + F.logsigmoid(logits), passed[:, -1:]], dim=1)
