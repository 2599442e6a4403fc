"""BoTorch as a rival in the bench of samplers; it is no dependency of dynnas (extra `bench`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import optuna
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import MixedSingleTaskGP, ModelListGP, SingleTaskGP
from botorch.models.model import Model
from botorch.models.transforms import Normalize, Standardize
from botorch.optim import optimize_acqf_mixed_alternating
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from gpytorch.mlls import SumMarginalLogLikelihood
from optuna.trial import FrozenTrial
from torch import Tensor

from dynnas.samplers.architecture import ArchitectureSampler, Proposal
from dynnas.samplers.genome import Genome, Rows
from dynnas.samplers.history import Reader
from dynnas.space.space import Space

_RANDOM = 10


def botorch_search(space: Space, seed: int) -> ArchitectureSampler:
    """qLogNEHVI (Daulton 2021, Ament 2023) with BoTorch's optimiser of mixed spaces, and its defaults.

    Numbers are whole numbers, texts categories; inactive genes are at their first value. Where the optimum
    was tried, the best of its neighbours comes.
    """
    genome = Genome(space)
    reader = Reader(genome, None)

    def propose(study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator) -> Iterator[Proposal]:
        history = reader.read(study)
        if len(history.rows) < _RANDOM:
            return
        torch.manual_seed(int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for row in _proposed(genome, history.rows, -history.losses, rng):
                yield Proposal(genome.decode(row))

    return ArchitectureSampler(space, propose, seed)


def _proposed(
    genome: Genome, rows: Rows, gains: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    places = _tensor(genome, rows)
    texts = [at for at, column in enumerate(genome.choices) if not genome.ordered[column]]
    highest = torch.tensor(genome.counts[genome.choices] - 1, dtype=torch.double)
    bounds = torch.stack([torch.zeros_like(highest), highest])
    values = torch.tensor(gains, dtype=torch.double)
    model = ModelListGP(*(_model(places, values[:, [at]], bounds, texts) for at in range(values.shape[1])))
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    acquisition = qLogNoisyExpectedHypervolumeImprovement(
        model=model, ref_point=infer_reference_point(values), X_baseline=places, prune_baseline=True
    )
    choices = {at: list(range(int(high) + 1)) for at, high in enumerate(highest.tolist())}
    best, _ = optimize_acqf_mixed_alternating(
        acquisition,
        bounds=bounds,
        discrete_dims={at: values for at, values in choices.items() if at not in texts},
        cat_dims={at: values for at, values in choices.items() if at in texts},
    )
    found = np.zeros((1, len(genome.counts)), dtype=np.int16)
    found[:, genome.choices] = best.numpy().round()
    found = genome.canonical(found, rng)
    yield found[0]
    near = genome.neighbours(found, rng)
    with torch.no_grad():
        worth = acquisition(_tensor(genome, near)[:, None])
    yield from near[np.argsort(-worth.numpy(), kind="stable")]


def _tensor(genome: Genome, rows: Rows) -> Tensor:
    return torch.tensor(np.maximum(rows[:, genome.choices], 0), dtype=torch.double)


def _model(places: Tensor, values: Tensor, bounds: Tensor, texts: list[int]) -> Model:
    scaling = Standardize(m=1)
    numbers = [at for at in range(places.shape[1]) if at not in texts]
    normal = Normalize(places.shape[1], indices=numbers, bounds=bounds[:, numbers]) if numbers else None
    if not texts:
        return SingleTaskGP(places, values, input_transform=normal, outcome_transform=scaling)
    return MixedSingleTaskGP(
        places, values, cat_dims=texts, input_transform=normal, outcome_transform=scaling
    )
