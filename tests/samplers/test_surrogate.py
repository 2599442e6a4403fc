"""The Gaussian process: against the textbook, its own likelihood by differences, and what it learns."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process.kernels import RBF, DotProduct
from support.tables import conditional_space, grid_space

from dynnas.samplers.genome import Genome
from dynnas.samplers.model.surrogate import (
    ADDITIVE,
    ALIKE,
    INTERACTING,
    SMOOTH,
    Belief,
    Kernel,
    Part,
    Prior,
    _Likelihood,
    fit_kernel,
)
from dynnas.space.gene import Gene
from dynnas.space.space import Space


def observations(points: int = 40) -> tuple[Genome, np.ndarray, np.ndarray]:
    genome, rng = Genome(conditional_space()), np.random.default_rng(0)
    features = genome.features(genome.sample(points, rng))
    return genome, features, rng.normal(size=points)


def test_predicts_as_the_textbook_does_with_kernels_of_scikit_learn() -> None:
    genome, features, values = observations()
    own = int((genome.layout.genes < len(genome.choices)).sum())
    assert own < features.shape[1]  # some choices have the same values
    settings = ((slice(0, own), 0.8, 0.7, 1.3), (slice(own, features.shape[1]), 0.5, 0.4, 0.9))
    parts = tuple(
        Part(columns, np.full(columns.stop - columns.start, weight), linear, interacting)
        for columns, weight, linear, interacting in settings
    )

    def covariance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        total = np.ones((len(first), len(second)))
        for columns, weight, linear, interacting in settings:
            x, y = np.sqrt(weight) * first[:, columns], np.sqrt(weight) * second[:, columns]
            total += linear * DotProduct(sigma_0=1e-9)(x, y) + interacting * RBF(1 / np.sqrt(2))(x, y)
        return total

    seen, new = features[:30], features[30:]
    noisy = covariance(seen, seen) + (0.05 + 1e-6) * np.eye(30)
    across = covariance(new, seen)
    expected = across @ np.linalg.solve(noisy, values[:30])
    spread = np.diag(covariance(new, new) - across @ np.linalg.solve(noisy, across.T))
    mean, deviation = Belief(Kernel(parts, noise=0.05), seen, values[:30]).predict(new)
    assert mean == pytest.approx(expected, abs=1e-8)
    assert deviation**2 == pytest.approx(spread, abs=1e-5)  # in single precision


def test_values_without_their_error_are_those_of_the_joint_normal() -> None:
    """A value is the process, what no gene explains, and an error: the first two are asked for."""
    genome, features, values = observations()
    kernel = fit_kernel(features, genome.layout, values)
    kernel = Kernel(kernel.parts, noise=0.5)
    error, points = 0.3, len(values)
    truth = kernel.between(features, features) + (0.5 - error + 1e-6) * np.eye(points)
    expected = truth @ np.linalg.solve(truth + error * np.eye(points), values)
    found = Belief(kernel, features, values).without(error)
    assert found == pytest.approx(expected, abs=1e-8)
    assert Belief(kernel, features, values).without(0.0) == pytest.approx(values)


@pytest.mark.parametrize("prior", [ALIKE, INTERACTING, ADDITIVE, SMOOTH])
def test_gradient_is_that_of_the_likelihood(prior: Prior) -> None:
    genome, features, values = observations(25)
    likelihood = _Likelihood(features, genome.layout, values, prior)
    at = likelihood._means + np.random.default_rng(1).normal(0, 0.5, len(likelihood._means))
    differences = approx_fprime(at, lambda point: likelihood(point)[0], 1e-6)
    assert likelihood(at)[1] == pytest.approx(differences, abs=2e-4)


def test_what_genes_alike_share_is_learned_from_few() -> None:
    """Twelve results of ten genes with four values each; only the totals over them count."""
    genes = tuple(Gene(f"op{at}", ("a", "b", "c", "d")) for at in range(10))
    genome, rng = Genome(Space("alike", genes)), np.random.default_rng(0)
    rows = genome.sample(212, rng)
    values = np.array([0.0, 1.0, 2.5, 4.0])[rows].sum(axis=1)
    values = (values - values[:12].mean()) / values[:12].std()
    features = genome.features(rows)
    errors = []
    for prior in (ALIKE, INTERACTING):
        kernel = fit_kernel(features[:12], genome.layout, values[:12], prior)
        guess = Belief(kernel, features[:12], values[:12]).mean(features[12:])
        errors.append(np.abs(guess - values[12:]).mean())
    assert errors[0] < 0.3 * errors[1]


def test_smooth_laws_of_numbers_are_learned_from_few() -> None:
    """Fifty results of four widths with nine values each, whose effects bend and depend on each other."""
    genes = tuple(Gene(f"width{at}", tuple(range(1, 10)), ordered=True) for at in range(4))
    genome, rng = Genome(Space("widths", genes)), np.random.default_rng(0)
    rows = genome.sample(250, rng)
    size = rows / 8
    values = np.sin(3 * size @ [1.0, 0.5, -0.8, 0.2]) + size[:, 1] * size[:, 2]
    values = (values - values[:50].mean()) / values[:50].std()
    features = genome.features(rows)
    errors = []
    for prior in (SMOOTH, INTERACTING, ADDITIVE):
        kernel = fit_kernel(features[:50], genome.layout, values[:50], prior)
        guess = Belief(kernel, features[:50], values[:50]).mean(features[50:])
        errors.append(np.abs(guess - values[50:]).mean())
    assert errors[0] < 0.5 * min(errors[1:])


def test_learns_which_genes_matter_and_how_much_is_noise() -> None:
    genome, rng = Genome(grid_space(6, 4)), np.random.default_rng(0)
    rows = genome.sample(150, rng)
    values = rows[:, 0] + np.where(rows[:, 1] > 1, rows[:, 2], 0) + rng.normal(0, 0.3, 150)
    scaled = (values - values.mean()) / values.std()
    features = genome.features(rows)
    kernel = fit_kernel(features, genome.layout, scaled, INTERACTING)
    weights = [kernel.parts[0].weights[genome.layout.genes[:18] == gene].mean() for gene in range(6)]
    assert min(weights[:3]) > 2 * max(weights[3:])
    assert kernel.noise == pytest.approx((0.3 / values.std()) ** 2, rel=0.4)

    new = genome.sample(200, rng)
    truth = new[:, 0] + np.where(new[:, 1] > 1, new[:, 2], 0)
    mean, deviation = Belief(kernel, features, scaled).predict(genome.features(new))
    error = mean - (truth - values.mean()) / values.std()
    assert np.std(error) < 0.25 * np.std(truth) / values.std()
    assert 0.6 < np.std(error / deviation) < 1.6
