"""The scores of a network on the search split, and the share of it that images run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dynnas.candidates.candidate import Candidate
from dynnas.errors import StudyError, nearest
from dynnas.metrics.artifact import artifact_accuracy
from dynnas.metrics.measurement import Measurement
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.cost import cost_of
from dynnas.settings.metrics import METRICS, register_measurement
from dynnas.tasks.registry import TASKS
from dynnas.tasks.task import Task


@register_measurement("score")
class Score(Measurement):
    """The scores of the task on the search split; with exits or gates also what images run and cost.

    `gives` is that of classification, `may_give` are those of all registered tasks: `check_objectives` tells
    whether the task of the data has them.
    """

    gives = (METRICS["accuracy"],)
    may_give = tuple(
        {
            metric.name: metric
            for task in TASKS.values()
            for metric in task.metrics
            if metric.name not in METRICS
        }.values()
    )
    needs = "calibrated"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the scores of the network with its own batch-norm statistics, as it will ship."""
        score = artifact_accuracy(candidate)
        return {
            **score.scores,
            **_exit_metrics(candidate, score.exit_shares),
            **(_gate_metrics(score.gates) if score.gates else {}),
        }


def check_objectives(names: Iterable[str], task: Task) -> None:
    """Check that the scores which are objectives or limits are those of the data's task.

    Raises:
        StudyError: one is of another task; the message names what this one gives.
    """
    own = [metric.name for metric in task.metrics]
    others = {metric.name for metric in (*Score.gives, *Score.may_give)} - set(own)
    for name in names:
        if name in others:
            raise StudyError(
                f"search: the task of the data is {task.name}, which does not give {name!r}"
                f"{nearest(name, own)}; it gives {', '.join(own)}: say search: "
                f"{{objectives: [{own[0]}, latency_ms]}}"
            )


def _exit_metrics(candidate: Candidate, shares: Sequence[float]) -> dict[str, float]:
    """Return where images leave and their mean cost; nothing for a network without exits."""
    names = candidate.config.ways
    if len(names) == 1:
        return {}
    leaving = {f"exit_share.{name}": share for name, share in zip(names, shares, strict=True)}
    return {"expected_macs": cost_of(candidate.calibrated).expected_macs(shares), **leaving}


def _gate_metrics(use: GateUse) -> dict[str, float]:
    """Return the mean cost of images, exits included, and how often each gate takes each alternative."""
    macs = np.array(use.image_macs)
    shares = {
        f"gate_share.{slot}.{name}": share
        for slot, alternatives in use.shares.items()
        for name, share in alternatives.items()
    }
    return {
        "expected_macs": float(macs.mean()),
        "p95_macs": float(np.percentile(macs, 95)),
        "worst_macs": float(macs.max()),
        "policies": float(use.policies),
        **shares,
    }
