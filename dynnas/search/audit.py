"""How far a supernet's ranking can be trusted: networks trained alone against inherited weights."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from dynnas.errors import StudyError
from dynnas.measure import accuracy, cost
from dynnas.progress import Progress
from dynnas.search.folder import write_whole
from dynnas.search.study import Study
from dynnas.search.supernet_evaluator import calibrated_network
from dynnas.space import Architecture, Space, TrainSettings, sample
from dynnas.supernet import Supernet
from dynnas.training import train_supernet

FORMAT = 1
DRAWN_FOR_EACH = 4
RESAMPLES = 2000
MIN_NETWORKS = 3


@dataclass(frozen=True)
class AuditedNetwork:
    """One network: MACs, and its accuracies on the search split with inherited weights and trained alone."""

    key: str
    genes: dict[str, Any]
    macs: int
    inherited: float
    alone: float


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95% interval, by bootstrap over the networks."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Audit:
    """Inherited against stand-alone accuracies of networks spread over the space by their MACs."""

    networks: tuple[AuditedNetwork, ...]
    epochs: int
    kendall_tau: Correlation
    spearman: Correlation

    def to_json(self) -> str:
        """The audit as a document."""
        return json.dumps({"dynnas_audit": FORMAT, **asdict(self)}, indent=2) + "\n"


def audit_study(
    study: Study,
    *,
    networks: int = 16,
    epochs: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Train `networks` architectures alone, by the supernet's recipe, and compare the ranks; writes
    audit.json.

    A network alone is trained as the supernet of a space that holds nothing else, so data, schedule and loss
    are the
    supernet's own. Trained networks are kept in the study's folder; interrupted, the same call goes on.

    Args:
        study: with a trained supernet.
        networks: how many, at even quantiles of MACs among random architectures of the space.
        epochs: for each network; the supernet's if None.
        seed: draws the architectures and the bootstrap.
        progress: told of every network.

    Raises:
        StudyError: too few networks to rank.
        TrainingError: the supernet is not trained.
    """
    if networks < MIN_NETWORKS:
        raise StudyError(f"an audit ranks networks: found {networks}, at least {MIN_NETWORKS} are needed")
    supernet, train = study.supernet, study.settings.train
    # A single network has no op types to share a bank between: the same networks serve for both kinds of
    # supernet.
    recipe = replace(train, epochs=epochs or train.epochs, experts="shared", processes=1)
    audited = []
    with (progress or Progress()).task("audit", networks) as task:
        for architecture in spread(supernet.space, networks, seed):
            inherited = _accuracy(study, supernet, architecture)
            alone = _accuracy(study, _trained_alone(study, architecture, recipe), architecture)
            macs = cost(supernet.config(architecture)).macs
            audited.append(AuditedNetwork(architecture.key, dict(architecture), macs, inherited, alone))
            task.advance(note=f"inherited {inherited:.4f}, alone {alone:.4f}")
    columns = [network.inherited for network in audited], [network.alone for network in audited]
    result = Audit(
        networks=tuple(audited),
        epochs=recipe.epochs,
        kendall_tau=correlation(stats.kendalltau, *columns, seed),
        spearman=correlation(stats.spearmanr, *columns, seed),
    )
    write_whole(study.folder.audit, result.to_json())
    return result


def spread(space: Space, count: int, seed: int) -> tuple[Architecture, ...]:
    """Up to `count` different architectures, at even quantiles of MACs among random ones."""
    rng = random.Random(f"audit {seed}")
    drawn = dict.fromkeys(sample(space, rng) for _ in range(DRAWN_FOR_EACH * count))
    ranked = sorted(drawn, key=lambda architecture: cost(space.network_config(architecture)).macs)
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return tuple(ranked[place] for place in places)


def correlation(
    statistic: Callable[..., Any], first: Sequence[float], second: Sequence[float], seed: int
) -> Correlation:
    """A rank correlation of paired values, with a percentile bootstrap interval over the pairs.

    Resamples in which either side is constant have no ranks and are drawn again.

    Raises:
        StudyError: all values of one side are equal.
    """
    pairs = np.array([first, second])
    if any(len(set(row)) < 2 for row in pairs.tolist()):
        raise StudyError("the audited networks all have the same accuracy: there is nothing to rank")
    rng = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < RESAMPLES:
        drawn = pairs[:, rng.integers(pairs.shape[1], size=pairs.shape[1])]
        if all(len(set(row)) > 1 for row in drawn.tolist()):
            values.append(float(statistic(*drawn).statistic))
    low, high = np.quantile(values, [0.025, 0.975])
    return Correlation(float(statistic(*pairs).statistic), float(low), float(high))


def _trained_alone(study: Study, architecture: Architecture, recipe: TrainSettings) -> Supernet:
    space = study.space.restrict({name: (value,) for name, value in architecture.items()})
    alone = Supernet(space, study.dataset.channels, study.dataset.classes, seed=recipe.seed)
    folder = study.folder.alone / f"{architecture.key}-{recipe.epochs}"
    train_supernet(alone, study.dataset, recipe, folder, device=study.settings.target.host_device)
    return alone


def _accuracy(study: Study, supernet: Supernet, architecture: Architecture) -> float:
    network = calibrated_network(supernet, architecture, study.dataset, study.settings.train)
    return accuracy(network, study.dataset, "search").top1
