"""The Gaussian process: against scikit-learn's, its own likelihood by differences, and what it learns."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from support.tables import conditional_space, grid_space

from dynnas.samplers.genome import Genome
from dynnas.samplers.model.surrogate import Belief, Kernel, _Likelihood, fit_kernel


def observations(points: int = 40) -> tuple[Genome, np.ndarray, np.ndarray]:
    genome, rng = Genome(conditional_space()), np.random.default_rng(0)
    features = genome.features(genome.sample(points, rng))
    return genome, features, rng.normal(size=points)


def test_predicts_as_scikit_learn_does() -> None:
    _, features, values = observations()
    kernel = Kernel(np.full(features.shape[1], 0.8), linear=0.7, interacting=1.3, noise=0.05)
    scale = np.sqrt(0.8)
    same = (
        ConstantKernel(1.0)
        + ConstantKernel(0.7) * DotProduct(sigma_0=1e-9)
        + ConstantKernel(1.3) * RBF(1 / np.sqrt(2))
        + WhiteKernel(0.05 + 1e-6)
    )
    witness = GaussianProcessRegressor(same, optimizer=None).fit(features[:30] * scale, values[:30])
    mean, deviation = Belief(kernel, features[:30], values[:30]).predict(features[30:])
    expected, spread = witness.predict(features[30:] * scale, return_std=True)
    assert mean == pytest.approx(expected, abs=1e-8)
    assert deviation**2 + 0.05 + 1e-6 == pytest.approx(spread**2, abs=1e-8)


def test_gradient_is_that_of_the_likelihood() -> None:
    genome, features, values = observations(25)
    likelihood = _Likelihood(features, genome.feature_genes, values)
    at = likelihood._means + np.random.default_rng(1).normal(0, 0.5, len(likelihood._means))
    differences = approx_fprime(at, lambda point: likelihood(point)[0], 1e-6)
    assert likelihood(at)[1] == pytest.approx(differences, abs=2e-4)


def test_learns_which_genes_matter_and_how_much_is_noise() -> None:
    genome, rng = Genome(grid_space(6, 4)), np.random.default_rng(0)
    rows = genome.sample(150, rng)
    values = rows[:, 0] + np.where(rows[:, 1] > 1, rows[:, 2], 0) + rng.normal(0, 0.3, 150)
    scaled = (values - values.mean()) / values.std()
    features = genome.features(rows)
    kernel = fit_kernel(features, genome.feature_genes, scaled)
    weights = [kernel.weights[genome.feature_genes == gene].mean() for gene in range(6)]
    assert min(weights[:3]) > 2 * max(weights[3:])
    assert kernel.noise == pytest.approx((0.3 / values.std()) ** 2, rel=0.4)

    new = genome.sample(200, rng)
    truth = new[:, 0] + np.where(new[:, 1] > 1, new[:, 2], 0)
    mean, deviation = Belief(kernel, features, scaled).predict(genome.features(new))
    error = mean - (truth - values.mean()) / values.std()
    assert np.std(error) < 0.25 * np.std(truth) / values.std()
    assert 0.6 < np.std(error / deviation) < 1.6
