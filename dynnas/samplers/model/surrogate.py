"""A Gaussian process on gene encodings, which predicts a metric of an architecture with its uncertainty.

The kernel is a sum of main effects and of interactions of every order, by the distances between genes
(`Genome.features`), each gene with a weight of its own:

    k(x, y) = a + b sum_g w_g <x_g, y_g> + c exp(-sum_g w_g |x_g - y_g|^2)

For texts the exponential is the heat kernel on the Hamming graph, for numbers the Ornstein-Uhlenbeck process
along the values. Weights, scales and the noise are the most likely ones under mild priors (MAP), found by
L-BFGS; with few observations the priors decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

# Normal priors on logarithms: (mean, deviation). The sum of the weights is about 3.
_WEIGHT_SUM, _WEIGHT_SPREAD = 3.0, 0.7
_NOISE = (-6.0, 2.0)
_OFFSET = 1.0
_BOUND = 6.0
_STEPS = 15
_JITTER = 1e-6


@dataclass(frozen=True)
class Prior:
    """The prior of a kernel: means of the logarithms of its parts' variances."""

    linear: float = -0.5
    interacting: float = 0.0


INTERACTING, ADDITIVE = Prior(), Prior(1.0, -2.0)


@dataclass(frozen=True)
class Kernel:
    """The kernel's parameters: a weight for each feature, variances of its parts, and of the noise."""

    weights: np.ndarray
    linear: float
    interacting: float
    noise: float

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return covariances of noiseless values, [first, second]."""
        first, second = first * np.sqrt(self.weights), second * np.sqrt(self.weights)
        inner = first @ second.T
        squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
        return _OFFSET + self.linear * inner + self.interacting * np.exp(np.minimum(2 * inner - squares, 0.0))

    def variance(self, features: np.ndarray) -> np.ndarray:
        """Return prior variances, [points]."""
        return _OFFSET + self.linear * (features**2 @ self.weights) + self.interacting


def fit_kernel(
    features: np.ndarray, feature_genes: np.ndarray, values: np.ndarray, prior: Prior = INTERACTING
) -> Kernel:
    """Return the most likely kernel.

    Args:
        features: [points, features].
        feature_genes: [features] the gene that each feature belongs to.
        values: [points], of mean about 0 and deviation about 1.
        prior: of its parameters.
    """
    return _Likelihood(features, feature_genes, values, prior).best()


class _Likelihood:
    """The negative logarithm of the posterior of a kernel's parameters, with its gradient."""

    def __init__(
        self,
        features: np.ndarray,
        feature_genes: np.ndarray,
        values: np.ndarray,
        prior: Prior = INTERACTING,
    ) -> None:
        self._values = values
        self._genes = feature_genes
        self._count = int(feature_genes.max()) + 1
        points = len(values)
        inner = np.empty((self._count, points, points))
        for gene in range(self._count):
            own = features[:, feature_genes == gene]
            inner[gene] = own @ own.T
        squares = np.einsum("gii->gi", inner)
        self._inner = inner.reshape(self._count, -1)
        self._distance = (squares[:, :, None] + squares[:, None, :] - 2 * inner).reshape(self._count, -1)
        center = np.log(_WEIGHT_SUM / self._count)
        self._means = np.array([*[center] * self._count, prior.linear, prior.interacting, _NOISE[0]])
        self._spreads = np.array([*[_WEIGHT_SPREAD] * self._count, 1.0, 1.0, _NOISE[1]])

    def best(self) -> Kernel:
        """Return the parameters at the minimum that L-BFGS finds from the priors' means."""
        bounds = list(zip(self._means - _BOUND, self._means + _BOUND, strict=True))
        found = minimize(
            self, self._means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
        )
        weights, (linear, interacting, noise) = np.exp(found.x[:-3]), np.exp(found.x[-3:])
        return Kernel(weights[self._genes], float(linear), float(interacting), float(noise))

    def __call__(self, at: np.ndarray) -> tuple[float, np.ndarray]:
        points = len(self._values)
        weights, (linear, interacting, noise) = np.exp(at[:-3]), np.exp(at[-3:])
        main = linear * (weights @ self._inner).reshape(points, points)
        decay = interacting * np.exp(-(weights @ self._distance)).reshape(points, points)
        covariance = _OFFSET + main + decay
        covariance[np.diag_indices(points)] += noise + _JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(at)
        solved = cho_solve((factor, True), self._values, check_finite=False)
        inverse = _inverse(factor)
        pull = 0.5 * (np.outer(solved, solved) - inverse)
        gradient = np.concatenate(
            [
                weights * (linear * (self._inner @ pull.ravel()) - self._distance @ (pull * decay).ravel()),
                [(pull * main).sum(), (pull * decay).sum(), noise * np.trace(pull)],
            ]
        )
        off = (at - self._means) / self._spreads
        loss = 0.5 * self._values @ solved + np.log(np.diag(factor)).sum() + 0.5 * (off**2).sum()
        return float(loss), off / self._spreads - gradient


def _inverse(factor: np.ndarray) -> np.ndarray:
    """Return the inverse of a matrix from its lower Cholesky factor."""
    lower = np.tril(dpotri(factor, lower=1)[0])
    return lower + np.tril(lower, -1).T


@dataclass(frozen=True)
class Belief:
    """A Gaussian process with its observations.

    Attributes:
        kernel: of the process.
        features: [points, features] that were observed.
        values: [points], of mean about 0 and deviation about 1.
    """

    kernel: Kernel
    features: np.ndarray
    values: np.ndarray

    @cached_property
    def _inverse(self) -> np.ndarray:
        covariance = self.kernel.between(self.features, self.features)
        covariance[np.diag_indices(len(covariance))] += self.kernel.noise + _JITTER
        return _inverse(cholesky(covariance, lower=True, check_finite=False))

    @cached_property
    def _solved(self) -> np.ndarray:
        return self._inverse @ self.values

    def left_out(self) -> np.ndarray:
        """Return leave-one-out predictions, [points] (Rasmussen and Williams 2006, equation 5.12)."""
        return self.values - self._solved / np.diag(self._inverse)

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict mean and deviation of the noiseless value of every point."""
        across = self.kernel.between(features, self.features)
        explained = np.einsum("ij,ij->i", across @ self._inverse, across)
        variance = np.maximum(self.kernel.variance(features) - explained, 1e-10)
        return across @ self._solved, np.sqrt(variance)

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Predict the mean alone, which costs far less."""
        return self.kernel.between(features, self.features) @ self._solved
