"""A Gaussian process on gene encodings, which predicts a metric of an architecture with its uncertainty.

The kernel is a sum of main effects and of interactions of every order, by the distances between genes
(`Genome.features`), each gene with a weight of its own:

    k(x, y) = a + b sum_g w_g <x_g, y_g> + c exp(-sum_g w_g |x_g - y_g|^2)

For texts the exponential is the heat kernel on the Hamming graph, for numbers the Ornstein-Uhlenbeck process
along the values. Genes with the same values, such as the operations of all edges of a cell, mostly act alike:
a second part, of the same form, is of totals over them, which few observations determine. A third one sees
numbers as places on a line: its exponential is the Gaussian kernel, whose functions are smooth, as many that
depend on widths are. A fourth one is of a forecast by the results of another study. Weights, scales and the
noise are the most likely ones under mild priors (MAP), found by L-BFGS; with few observations the priors
decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.blas import strsm
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from dynnas.samplers.genome import Layout

# Normal priors on logarithms: (mean, deviation). Sums of the weights of genes, totals, lines and a forecast.
_WEIGHT_SUMS = (3.0, 1.0, 6.0, 1.0)
_NOISE = (-6.0, 2.0)
_OFFSET = 1.0
_BOUND = 6.0
_STEPS = 15
_JITTER = 1e-6

# Points that are predicted at once, so that their covariances stay in the processor's cache.
_CHUNK = 256


@dataclass(frozen=True)
class Prior:
    """The prior of a kernel: means of the logarithms of the linear and the interacting term's variance.

    Attributes:
        genes: of the terms over genes.
        totals: over totals; None for a kernel without them.
        lines: over numbers as places on a line, where the space has such; None for a kernel without them.
        forecast: over a forecast, where there is one; None for a kernel without it.
        spread: deviation of the logarithms of the weights.
    """

    genes: tuple[float, float]
    totals: tuple[float, float] | None
    lines: tuple[float, float] | None = None
    forecast: tuple[float, float] | None = (1.0, -0.5)
    spread: float = 0.7


ALIKE = Prior((-0.5, 0.0), (0.5, -0.5))
INTERACTING = Prior((-0.5, 0.0), None)
ADDITIVE = Prior((1.0, -2.0), (1.0, -2.0))
SMOOTH = Prior((-1.0, -2.0), (-1.0, -2.0), (-1.0, 0.5), spread=1.3)


@dataclass(frozen=True)
class Part:
    """The part of a kernel that looks at some features.

    Attributes:
        columns: the features.
        weights: [these features].
        linear: variance of the linear term.
        interacting: variance of the exponential.
    """

    columns: slice
    weights: np.ndarray
    linear: float
    interacting: float

    def near(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the exponential term of covariances, [first, second]."""
        first, second = first[:, self.columns], second[:, self.columns]
        # -|x - y|^2 = 2 <x, y> - |x|^2 - |y|^2, with the variance, in one product.
        ones = np.ones((len(first), 1))
        norms = -(second**2 @ self.weights) + np.log(self.interacting)
        left = np.column_stack([first, -(first**2 @ self.weights), ones])
        right = np.column_stack([second * (2 * self.weights), np.ones(len(second)), norms])
        found = left @ right.T
        return np.exp(found, out=found)

    def variance(self, features: np.ndarray) -> np.ndarray:
        """Return prior variances, [points]."""
        return self.linear * (features[:, self.columns] ** 2 @ self.weights) + self.interacting


@dataclass(frozen=True)
class Kernel:
    """The kernel's parameters: its parts, and the variance of the noise."""

    parts: tuple[Part, ...]
    noise: float

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return covariances of noiseless values, [first, second]."""
        scales = np.zeros(second.shape[1])
        for part in self.parts:
            scales[part.columns] = part.linear * part.weights
        covariances = first @ (second * scales).T
        covariances += _OFFSET
        for part in self.parts:
            covariances += part.near(first, second)
        return covariances

    def variance(self, features: np.ndarray) -> np.ndarray:
        """Return prior variances, [points]."""
        return np.sum([part.variance(features) for part in self.parts], axis=0) + _OFFSET


def fit_kernel(features: np.ndarray, layout: Layout, values: np.ndarray, prior: Prior = ALIKE) -> Kernel:
    """Return the most likely kernel.

    Args:
        features: [points, features].
        layout: what they are about.
        values: [points], of mean about 0 and deviation about 1.
        prior: of its parameters.
    """
    return _Likelihood(features, layout, values, prior).best()


class _Likelihood:
    """The negative logarithm of the posterior of a kernel's parameters, with its gradient."""

    def __init__(
        self, features: np.ndarray, layout: Layout, values: np.ndarray, prior: Prior = ALIKE
    ) -> None:
        self._values = values
        self._parts: list[slice] = []
        self._columns: list[np.ndarray] = []
        centers: list[float] = []
        scales: list[float] = []
        grams: list[np.ndarray] = []
        begin = 0
        for part, total, mean in zip(
            layout.parts, _WEIGHT_SUMS, (prior.genes, prior.totals, prior.lines, prior.forecast), strict=False
        ):
            genes, begin = range(begin, begin + part), begin + part
            if not part or mean is None:
                continue
            self._parts.append(slice(len(grams), len(grams) + part))
            self._columns.append(np.flatnonzero((layout.genes >= genes.start) & (layout.genes < genes.stop)))
            centers += [np.log(total / part)] * part
            scales += mean
            owns = [features[:, layout.genes == gene] for gene in genes]
            grams += [own @ own.T for own in owns]
        self._genes = [layout.genes[columns] - layout.genes[columns[0]] for columns in self._columns]
        inner = np.array(grams)
        squares = np.einsum("gii->gi", inner)
        self._count = len(grams)
        self._inner = inner.reshape(self._count, -1)
        self._distance = (squares[:, :, None] + squares[:, None, :] - 2 * inner).reshape(self._count, -1)
        self._means = np.array([*centers, *scales, _NOISE[0]])
        self._spreads = np.array([*[prior.spread] * self._count, *[1.0] * len(scales), _NOISE[1]])

    def best(self) -> Kernel:
        """Return the parameters at the minimum that L-BFGS finds from the priors' means."""
        bounds = list(zip(self._means - _BOUND, self._means + _BOUND, strict=True))
        found = minimize(
            self, self._means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
        )
        weights, scales = np.exp(found.x[: self._count]), np.exp(found.x[self._count :]).tolist()
        parts = []
        for at, (genes, columns) in enumerate(zip(self._parts, self._columns, strict=True)):
            own = weights[genes][self._genes[at]]
            where = slice(int(columns[0]), int(columns[-1]) + 1)
            parts.append(Part(where, own, scales[2 * at], scales[2 * at + 1]))
        return Kernel(tuple(parts), scales[-1])

    def __call__(self, at: np.ndarray) -> tuple[float, np.ndarray]:
        points = len(self._values)
        weights, scales = np.exp(at[: self._count]), np.exp(at[self._count :])
        covariance, terms = np.full((points, points), _OFFSET), []
        for genes, linear, interacting in zip(self._parts, scales[:-1:2], scales[1::2], strict=True):
            main = linear * (weights[genes] @ self._inner[genes]).reshape(points, points)
            decay = interacting * np.exp(-(weights[genes] @ self._distance[genes])).reshape(points, points)
            covariance += main + decay
            terms.append((main, decay))
        covariance[np.diag_indices(points)] += scales[-1] + _JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(at)
        solved = cho_solve((factor, True), self._values, check_finite=False)
        pull = 0.5 * (np.outer(solved, solved) - _inverse(factor))
        gradient = np.empty_like(at)
        for number, (genes, (main, decay)) in enumerate(zip(self._parts, terms, strict=True)):
            slopes = scales[2 * number] * (self._inner[genes] @ pull.ravel())
            gradient[genes] = weights[genes] * (slopes - self._distance[genes] @ (pull * decay).ravel())
            variances = self._count + 2 * number
            gradient[variances : variances + 2] = (pull * main).sum(), (pull * decay).sum()
        gradient[-1] = scales[-1] * np.trace(pull)
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
    def _factor(self) -> np.ndarray:
        """The lower Cholesky factor of the covariance of the observations."""
        covariance = self.kernel.between(self.features, self.features)
        covariance[np.diag_indices(len(covariance))] += self.kernel.noise + _JITTER
        return cholesky(covariance, lower=True, check_finite=False)

    @cached_property
    def _single_factor(self) -> np.ndarray:
        return np.asfortranarray(self._factor, dtype=np.float32)

    @cached_property
    def _solved(self) -> np.ndarray:
        return cho_solve((self._factor, True), self.values, check_finite=False)

    def left_out(self) -> np.ndarray:
        """Return leave-one-out predictions, [points] (Rasmussen and Williams 2006, equation 5.12)."""
        return self.values - self._solved / np.diag(_inverse(self._factor))

    def without(self, noise: float) -> np.ndarray:
        """Return what is expected of the values without a part of their noise, [points].

        Args:
            noise: the variance of that part; what it leaves of the kernel's noise stays in the values.
        """
        return self.values - noise * self._solved

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict mean and deviation of the noiseless value of every point.

        What the observations explain of the variance is computed in single precision, in half of the time.
        """
        means, explained = np.empty(len(features)), np.empty(len(features))
        for begin in range(0, len(features), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            across = self.kernel.between(features[chunk], self.features)
            means[chunk] = across @ self._solved
            whitened = strsm(1.0, self._single_factor, across.T.astype(np.float32, order="F"), lower=1)
            explained[chunk] = np.einsum("ij,ij->j", whitened, whitened)
        return means, np.sqrt(np.maximum(self.kernel.variance(features) - explained, 1e-10))

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Predict the mean alone, which costs far less."""
        means = np.empty(len(features))
        for begin in range(0, len(features), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            means[chunk] = self.kernel.between(features[chunk], self.features) @ self._solved
        return means
