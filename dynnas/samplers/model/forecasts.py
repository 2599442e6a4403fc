"""Forecasts of metrics by the results of another study: of the same space, or of one that shares networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dynnas.errors import SpaceError
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome
from dynnas.samplers.model.surrogate import Belief, fit_kernel
from dynnas.samplers.model.warp import Warp

# Results that a forecast rests on, at most and at least, and how many of them set its kernel.
_MOST, _LEAST, _FITTED = 256, 4, 100


def forecasts_of(genome: Genome, goal: Goal, earlier: Sequence[ScoredArchitecture]) -> Mapping[str, Belief]:
    """Return by name a process of normal scores for every metric of the goal that earlier results have.

    Args:
        genome: of the space. Results of architectures outside it are left out.
        goal: whose objectives and limits are forecast.
        earlier: the results. What they are in, such as the device of a latency, may be different: a model
            learns how far they carry over.
    """
    rows, metrics = [], []
    for one in earlier:
        try:
            rows.append(genome.encode(genome.space.architecture(one.architecture)))
        except SpaceError:
            continue
        metrics.append(one.metrics)
    forecasts = {}
    for name in goal.metrics:
        values = np.array([known.get(name, np.nan) for known in metrics], dtype=float)
        order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
        if len(order) < _LEAST:
            continue
        # Evenly over the ranks, in a random order.
        chosen = order[np.linspace(0, len(order) - 1, min(len(order), _MOST)).round().astype(int)]
        chosen = np.random.default_rng(len(order)).permutation(chosen)
        warped = Warp.of("rank", values[chosen])(values[chosen])
        features = genome.features(np.array([rows[at] for at in chosen], dtype=np.int16))
        kernel = fit_kernel(features[:_FITTED], genome.layout, warped[:_FITTED])
        forecasts[name] = Belief(kernel, features, warped)
    return forecasts
