"""The time of a piece from its features: a Gaussian process over measured pieces."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynnas.threads import one_blas_thread

_MOST_FOR_SCALES = 250
"""Maximum number of pieces for finding the length scales: the search takes the cube of it, many times."""


@dataclass(frozen=True)
class PieceTimes:
    """A predictor of the logarithm of a time: a line, and a Matern process (nu = 5/2) about it.

    Attributes:
        names: of the features.
        center, spread: (features,) by which they are normalised.
        scales: (features,) length scales.
        variance, slope, noise: of process, line and measurements, in units of the times' logarithms.
        mean: of the logarithms.
        points: (pieces, features) normalised. weights: (pieces,) of each measured piece.
    """

    names: tuple[str, ...]
    center: np.ndarray
    spread: np.ndarray
    scales: np.ndarray
    variance: float
    slope: float
    noise: float
    mean: float
    points: np.ndarray
    weights: np.ndarray

    @staticmethod
    def fit(features: Sequence[Mapping[str, float]], times: np.ndarray, seed: int = 0) -> PieceTimes:
        """Fit to times (pieces,) of measured pieces, in any unit."""
        names = tuple(sorted({name for numbers in features for name in numbers}))
        table = _table(features, names)
        spread = table.std(0)
        kept = spread > 0
        names = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
        center, spread = table.mean(0)[kept], spread[kept]
        points = (table[:, kept] - center) / spread
        targets = np.log(times)
        mean, size = float(targets.mean()), float(targets.std()) or 1.0
        scales, variance, slope, noise = _fit_scales(points, (targets - mean) / size, seed)
        model = PieceTimes(
            names, center, spread, scales, variance * size**2, slope * size**2, noise * size**2, mean,
            points, np.zeros(len(points)),
        )  # fmt: skip
        covariance = model._covariance(points, points) + model.noise * np.eye(len(points))
        weights = np.linalg.solve(covariance, targets - mean)
        return PieceTimes(**{**model.__dict__, "weights": weights})

    def predict(self, features: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Predict times (pieces,) in the unit of those measured."""
        points = (_table(features, self.names) - self.center) / self.spread
        return np.exp(self.mean + self._covariance(points, self.points) @ self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return a document for JSON that `from_dict` reads back."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self.__dict__.items()
        }

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> PieceTimes:
        """Read what `to_dict` returned."""
        arrays = {name: np.array(value) for name, value in document.items() if isinstance(value, list)}
        return PieceTimes(**{**document, **arrays, "names": tuple(document["names"])})

    def _covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not self.names:
            return np.zeros((len(a), len(b)))
        gap = (a[:, None] - b[None]) / self.scales
        distance = np.sqrt(5.0) * np.sqrt((gap**2).sum(-1))
        matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
        return self.variance * matern + self.slope * (1 + a @ b.T)


def _table(features: Sequence[Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    return np.array([[numbers.get(name, 0.0) for name in names] for numbers in features]).reshape(
        len(features), len(names)
    )


def _fit_scales(points: np.ndarray, targets: np.ndarray, seed: int) -> tuple[np.ndarray, float, float, float]:
    """Find the length scales and the variances of process, line and noise of greatest likelihood."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    width = points.shape[1]
    if not width:
        return np.ones(0), 0.0, 0.0, 1.0
    chosen = np.random.default_rng(seed).permutation(len(points))[:_MOST_FOR_SCALES]
    kernel = (
        ConstantKernel(1.0) * Matern(np.full(width, 3.0), (0.3, 100.0), nu=2.5)
        + ConstantKernel(0.1) * DotProduct(1.0, "fixed")
        + WhiteKernel(1e-3, (1e-6, 1e-1))
    )
    with warnings.catch_warnings():
        # A scale at the end of its range says that a feature does not matter.
        warnings.simplefilter("ignore")
        with one_blas_thread():
            fitted = GaussianProcessRegressor(kernel).fit(points[chosen], targets[chosen]).kernel_
    process, line, noise = fitted.k1.k1, fitted.k1.k2, fitted.k2
    return (
        np.atleast_1d(process.k2.length_scale) * np.ones(width),
        float(process.k1.constant_value),
        float(line.k1.constant_value),
        float(noise.noise_level),
    )
