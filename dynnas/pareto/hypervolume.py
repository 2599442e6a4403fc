"""The front's hypervolume over the trials of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from dynnas.pareto.front import Front, ScoredArchitecture, reference_point
from dynnas.pareto.objectives import Objective


@dataclass(frozen=True)
class HypervolumeCurve:
    """The growth of the front over the trials.

    Attributes:
        reference: a value for each objective, between which and the front the volume lies.
        trials: numbers of the trials after which the front was larger than before.
        volumes: the hypervolumes from these trials on, in the product of the objectives' units.
    """

    reference: Mapping[str, float]
    trials: tuple[int, ...]
    volumes: tuple[float, ...]


def hypervolume_curve(
    candidates: Sequence[ScoredArchitecture],
    objectives: tuple[Objective, ...],
    reference: Mapping[str, float] | None = None,
) -> HypervolumeCurve:
    """Return the front's hypervolume after each trial that enlarged it.

    Args:
        candidates: feasible ones in the order of their trials.
        objectives: of the search.
        reference: that of `reference_point` for the front of all `candidates` if None.
    """
    if not candidates:
        return HypervolumeCurve(dict(reference or {}), (), ())
    reference = reference or reference_point([Front.of(candidates, objectives)])
    signs = np.array([objective.sign for objective in objectives])
    names = [objective.name for objective in objectives]
    losses = signs * np.array([[one.metrics[name] for name in names] for one in candidates], dtype=float)
    corner = signs * np.array([reference[name] for name in names])
    front = np.zeros((0, len(names)))
    trials: list[int] = []
    volumes: list[float] = []
    for candidate, loss in zip(candidates, losses, strict=True):
        if (front <= loss).all(axis=1).any():
            continue
        front = np.vstack([front[~(front >= loss).all(axis=1)], loss])
        inside = front[(front < corner).all(axis=1)]
        volume = float(moocore.hypervolume(inside, ref=corner)) if len(inside) else 0.0
        if not volumes or volume > volumes[-1]:
            trials.append(len(trials) if candidate.trial is None else candidate.trial)
            volumes.append(volume)
    return HypervolumeCurve(reference, tuple(trials), tuple(volumes))
