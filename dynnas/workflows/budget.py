"""The command `dynnas budget`: accuracy of a study's network at every budget of computation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dynnas.errors import StudyError
from dynnas.metrics.budgeted import QUOTAS, BudgetPoint, budget_curve
from dynnas.metrics.judging import judge_network
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import exits_of
from dynnas.study.records.latencies import IMAGE_LATENCY
from dynnas.study.study import Study


@dataclass(frozen=True)
class Budget:
    """Accuracy against expected cost of one network.

    Attributes:
        key: of its architecture. weights: `inherited`, or the name of a training.
        ways: names of the exits, then `head`.
        exit_macs: multiply-adds of an image that leaves there; where gates decide on them, the mean of test
            images.
        way_ms: times of the same, None where no image was timed; empty before `dynnas latency`.
        search_anytime, test_anytime: accuracy of each exit over all images of the split.
        points: one for each quota.
    """

    key: str
    weights: str
    ways: tuple[str, ...]
    exit_macs: tuple[float, ...]
    way_ms: tuple[float | None, ...]
    search_anytime: tuple[float, ...]
    test_anytime: tuple[float, ...]
    points: tuple[BudgetPoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all values under their names, for JSON."""
        return asdict(self)


def budget_of(study: Study, key: str, quotas: Sequence[float] = QUOTAS, weights: str = "inherited") -> Budget:
    """Run MSDNet's budgeted-batch protocol: thresholds fitted on the search split, applied to the test split.

    Args:
        study: with a trained supernet.
        key: of a network of the study, with exits.
        quotas: ratios of the shares that leave at an exit and at the one before.
        weights: as `Study.weights_of` takes them.

    Raises:
        StudyError: there is no such network or training, it has no exits, or a quota is not positive.
    """
    for quota in quotas:
        if not 0 < quota < math.inf:
            raise StudyError(f"--quota: found {quota:g}; allowed: numbers above 0, as 0.5")
    trained = study.weights_of(key, weights)
    network = study.trained_network(trained) if trained else study.candidate(key).calibrated
    dataset = study.dataset
    if not exits_of(network):
        raise StudyError(
            f"{study.name}: {key} has no exits, so every image costs the same; pick a network with exits"
        )
    size, way_ms = cost_of(network), _times(study, key)
    search, test = (judge_network(network, dataset, split, size) for split in (dataset.search, dataset.test))
    saved_by_exit = [0.0] * len(size.exit_macs) if test.saved is None else test.saved.mean(dim=1).tolist()
    return Budget(
        key=key,
        weights=trained.name if trained else "inherited",
        ways=network.config.ways,
        exit_macs=tuple(macs - saved for macs, saved in zip(size.exit_macs, saved_by_exit, strict=True)),
        way_ms=way_ms,
        search_anytime=search.accuracies,
        test_anytime=test.accuracies,
        points=budget_curve(search, test, size.exit_macs, quotas, way_ms),
    )


def _times(study: Study, key: str) -> tuple[float | None, ...]:
    """Return the time to each exit [ms], as `dynnas latency` has measured it; empty before that."""
    path = study.folder.latency / f"{key}.json"
    if not path.exists():
        return ()
    return IMAGE_LATENCY.load(path, lambda content: tuple(way["mean_ms"] for way in content["ways"]))
