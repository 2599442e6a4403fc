"""A quick process for the times of layers, of fixed length scales: `transfer.py` fits hundreds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynnas.nn.networks.layer_features import Traits


class Process:
    """A Matern process (nu = 5/2) about a line for logarithms of layers' times, of fixed length scales."""

    def __init__(self, layers: Sequence[Traits], ms: np.ndarray) -> None:
        self.names = sorted({name for each in layers for name in each.numbers})
        table = self._table(layers)
        self.names = [name for name, keep in zip(self.names, table.std(0) > 0, strict=True) if keep]
        table = self._table(layers)
        self.center, self.spread = table.mean(0), table.std(0)
        self.points = (table - self.center) / self.spread
        targets = np.log(ms)
        self.mean, self.size = targets.mean(), targets.var() or 1.0
        covariance = self._covariance(self.points) + 2e-3 * self.size * np.eye(len(ms))
        self.weights = np.linalg.solve(covariance, targets - self.mean)

    def predict(self, layers: Sequence[Traits]) -> np.ndarray:
        points = (self._table(layers) - self.center) / self.spread
        return np.exp(self.mean + self._covariance(points) @ self.weights)

    def _table(self, layers: Sequence[Traits]) -> np.ndarray:
        rows = [[each.numbers.get(name, 0.0) for name in self.names] for each in layers]
        return np.array(rows).reshape(len(layers), len(self.names))

    def _covariance(self, points: np.ndarray) -> np.ndarray:
        squares = (points**2).sum(1)[:, None] + (self.points**2).sum(1) - 2 * points @ self.points.T
        distance = np.sqrt(5 * np.maximum(squares, 0)) / 4.0
        matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
        return self.size * (matern + 0.1 * (1 + points @ self.points.T))
