"""The audit of a supernet's ranking: networks trained alone against inherited weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import stats

from dynnas.candidates.candidate import calibrated_network
from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.metrics.accuracy import accuracy
from dynnas.metrics.size import Size
from dynnas.nn.networks.cost import cost
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.noise import half_width
from dynnas.progress import Progress, Task
from dynnas.settings.settings import TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.space.moves import sample
from dynnas.space.space import Space
from dynnas.study.records.audit import Audit, AuditedNetwork, correlation, neighbours
from dynnas.study.study import Study
from dynnas.supernet.make import make_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.training.start import train_supernet

DRAWN_FOR_EACH = 4
MIN_NETWORKS = 3
FRONT_SHARE = 0.5
"""Maximum share of members of the front among the networks: ranks must be known where the front lies, but a
front alone is too narrow to show whether the rest is ranked.
"""
_DEVIATIONS = 1.96
"""Half of a 95% interval, in standard deviations."""


def audit_study(
    study: Study,
    *,
    networks: int = 16,
    epochs: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Train `networks` architectures alone, by the supernet's recipe, and compare the ranks.

    The result is written to audit.json.

    A network alone is trained as the supernet of a space that holds nothing else, so data, schedule and loss
    are the supernet's own. Trained networks are kept in the study's folder; interrupted, the same call goes
    on.

    Args:
        study: with a trained supernet.
        networks: how many, see `chosen`.
        epochs: for each network; the supernet's if None.
        seeds: trainings of each network; the first has the supernet's seed.
        seed: draws the architectures and the bootstrap.
        progress: told of every training.

    Raises:
        StudyError: too few networks to rank.
        TrainingError: the supernet is not trained.
    """
    if networks < MIN_NETWORKS:
        raise StudyError(f"an audit ranks networks: found {networks}, at least {MIN_NETWORKS} are needed")
    train = study.settings.train
    # A single network has no op types to share a bank between: the same networks serve for both kinds of
    # supernet.
    recipe = replace(train, epochs=epochs or train.epochs, experts="shared", processes=1)
    members = {member.key for member in study.front}
    recipes = [replace(recipe, seed=recipe.seed + extra) for extra in range(seeds)]
    with (progress or Progress()).task("audit", networks * seeds) as task:
        audited = [
            _audited(study, architecture, recipes, architecture.key in members, task)
            for architecture in chosen(study, networks, seed)
        ]
    columns = [network.inherited for network in audited], [network.alone for network in audited]
    metric = study.dataset.task.metrics[0]
    front = [member.metrics[metric.name] for member in study.front]
    variances = [_variance(member, metric.name) for member in study.front]
    result = Audit(
        metric=metric,
        networks=tuple(audited),
        epochs=recipe.epochs,
        seeds=seeds,
        kendall_tau=correlation(stats.kendalltau, *columns, seed),
        spearman=correlation(stats.spearmanr, *columns, seed),
        neighbours=neighbours(front, variances, [network.by_seed for network in audited]),
    )
    atomic_write(study.folder.audit, result.to_json())
    return result


def _variance(member: ScoredArchitecture, metric: str) -> float | None:
    """Return the variance of a score by the choice of search images; None without an interval."""
    noise = half_width(member.metrics, metric)
    return None if noise is None else (noise / _DEVIATIONS) ** 2


def _audited(
    study: Study, architecture: Architecture, recipes: Sequence[TrainSettings], on_front: bool, task: Task
) -> AuditedNetwork:
    """Score a network with inherited weights, and trained alone by every recipe."""
    inherited = accuracy(study.extractor.candidate(architecture).calibrated, study.dataset).top1
    by_seed = []
    for recipe in recipes:
        alone = _trained_alone(study, architecture, recipe)
        network = calibrated_network(alone, architecture, study.dataset, study.settings.train)
        by_seed.append(accuracy(network, study.dataset).top1)
        task.advance(note=f"inherited {inherited:.4f}, alone {by_seed[-1]:.4f}")
    return AuditedNetwork(
        key=architecture.key,
        genes=dict(architecture),
        macs=int(_macs(study, architecture)),
        on_front=on_front,
        inherited=inherited,
        alone=float(np.mean(by_seed)),
        by_seed=tuple(by_seed),
    )


def chosen(study: Study, count: int, seed: int) -> tuple[Architecture, ...]:
    """Return the networks of an audit: members of the front, other candidates, and then random ones.

    Members of the front, at even ranks, are up to `FRONT_SHARE`; the rest are candidates at even quantiles of
    latency, and where a study has too few, random architectures as by `spread`.
    """
    front = _evenly(study.front, min(len(study.front), int(count * FRONT_SHARE)))
    keys = {member.key for member in study.front}
    others = {each.key: each for each in study.candidates if each.key not in keys}
    ranked = sorted(others.values(), key=lambda candidate: candidate.metrics["latency_ms"])
    rest = _evenly(ranked, min(len(ranked), count - len(front)))
    found = dict.fromkeys(candidate.architecture for candidate in (*front, *rest))
    counted = partial(_macs, study) if study.space.model is not None else None
    for architecture in spread(study.space, 2 * count, seed, counted):
        if len(found) < count:
            found.setdefault(architecture)
    return tuple(found)


def _evenly(candidates: Sequence[ScoredArchitecture], count: int) -> list[ScoredArchitecture]:
    places = np.linspace(0, len(candidates) - 1, count).round().astype(int)
    return [candidates[place] for place in places]


def spread(
    space: Space, count: int, seed: int, macs: Callable[[Architecture], float] | None = None
) -> tuple[Architecture, ...]:
    """Return up to `count` different architectures, at even quantiles of MACs among random ones."""
    macs = macs or (lambda architecture: cost(space.network_config(architecture)).macs)
    rng = random.Random(f"audit {seed}")
    drawn = dict.fromkeys(sample(space, rng) for _ in range(DRAWN_FOR_EACH * count))
    ranked = sorted(drawn, key=macs)
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return tuple(ranked[place] for place in places)


def _macs(study: Study, architecture: Architecture) -> float:
    return Size().measure(study.extractor.candidate(architecture))["macs"]


def _trained_alone(study: Study, architecture: Architecture, recipe: TrainSettings) -> Supernet:
    space = study.space.restrict({name: (value,) for name, value in architecture.items()})
    recipe = replace(recipe, init=None)  # a file of weights is for the largest network
    space = space.of_data(study.dataset.shape, study.dataset.task)
    alone = make_supernet(space, study.dataset.channels, study.dataset.task.outputs, seed=recipe.seed)
    again = "" if recipe.seed == study.settings.train.seed else f"-seed{recipe.seed}"
    folder = study.folder.alone / f"{architecture.key}-{recipe.epochs}{again}"
    train_supernet(alone, study.dataset, recipe, folder, device=study.settings.target.host_device)
    return alone
