"""SMAC3 as a rival in the bench of samplers; it is no dependency of dynnas (extra `bench`)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
from ConfigSpace import Categorical, ConfigurationSpace, Integer
from optuna.trial import FrozenTrial
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialInfo, TrialValue

from dynnas.samplers.architecture import ArchitectureSampler, Proposal
from dynnas.samplers.genome import Genome, Rows
from dynnas.samplers.history import Reader
from dynnas.space.space import Space

_ASKED = 20
"""Number of proposals that are looked at for one that the study has not seen."""


def smac_search(space: Space, seed: int) -> ArchitectureSampler:
    """SMAC3 (Lindauer et al. 2022): its facade for hyperparameters, ParEGO for several objectives.

    Numbers are whole numbers, texts categories; inactive genes are at their first value. What is no new
    architecture is told its known result, and SMAC asked again. Failures are not told:
    they have no costs.
    """
    genome = Genome(space)
    reader = Reader(genome, None)
    configs = ConfigurationSpace(seed=seed)
    for at in genome.choices:
        count = int(genome.counts[at])
        ordered = genome.ordered[at]
        configs.add(
            Integer(_name(at), (0, count - 1)) if ordered else Categorical(_name(at), [*range(count)])
        )
    smac: list[HyperparameterOptimizationFacade] = []
    asked: dict[bytes, TrialInfo] = {}
    told = 0

    def start(objectives: int) -> HyperparameterOptimizationFacade:
        scenario = Scenario(
            configs,
            objectives=[f"loss{number}" for number in range(objectives)],
            n_trials=10**6,
            deterministic=True,
            seed=seed,
            output_directory=Path(tempfile.mkdtemp()),
        )
        return HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: [0.0] * objectives, overwrite=True, logging_level=50
        )

    def propose(study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator) -> Iterator[Proposal]:
        nonlocal told
        history = reader.read(study)
        if not smac:
            smac.append(start(len(study.directions)))
        known = dict(zip([row.tobytes() for row in history.rows], history.losses, strict=True))
        for name in [row.tobytes() for row in history.rows[told:]]:
            if name in asked and np.isfinite(known[name]).all():
                smac[0].tell(asked.pop(name), TrialValue(cost=known[name].tolist()))
        told = len(history.rows)
        for _ in range(_ASKED):
            info = smac[0].ask()
            name = _row(genome, info.config, rng).tobytes()
            if name not in history.taken:
                asked[name] = info
                yield Proposal(genome.decode(np.frombuffer(name, dtype=np.int16)))
                return
            if name in known and np.isfinite(known[name]).all():
                smac[0].tell(info, TrialValue(cost=known[name].tolist()))

    return ArchitectureSampler(space, propose, seed)


def _name(at: int) -> str:
    return f"gene{at}"


def _row(genome: Genome, config: object, rng: np.random.Generator) -> Rows:
    found = np.zeros((1, len(genome.counts)), dtype=np.int16)
    found[0, genome.choices] = [config[_name(at)] for at in genome.choices]  # type: ignore[index]
    return genome.canonical(found, rng)[0]
