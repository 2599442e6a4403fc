"""How good a network is on the search split, and what its images run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dynnas.candidates.candidate import Candidate
from dynnas.metrics.accuracy import accuracy
from dynnas.metrics.measurement import Measurement
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.settings.metrics import METRICS, register_measurement


@register_measurement("score")
class Score(Measurement):
    """The accuracy on the search split; with exits or gates also what images run and cost."""

    gives = (METRICS["accuracy"],)
    needs = "calibrated"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """The scores of the candidate's network with its own batch-norm statistics."""
        score = accuracy(candidate.calibrated, candidate.dataset, "search")
        return {
            "accuracy": score.top1,
            **_exit_metrics(candidate.config, score.exit_shares),
            **(_gate_metrics(score.gates) if score.gates else {}),
        }


def _exit_metrics(config: NetworkConfig, shares: Sequence[float]) -> dict[str, float]:
    """Where images leave and what they cost in the mean; nothing for a network without exits."""
    if not config.exits:
        return {}
    names = (*(place.name for place in config.exits), "head")
    leaving = {f"exit_share.{name}": share for name, share in zip(names, shares, strict=True)}
    return {"expected_macs": cost(config).expected_macs(shares), **leaving}


def _gate_metrics(use: GateUse) -> dict[str, float]:
    """What images cost, exits included, by the list of all of them; and how often a gate takes what."""
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
