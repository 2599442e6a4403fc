"""The acquisition function: the value that the trials so far lead one to expect of untried architectures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from dynnas.samplers.genome import Genome, Rows
from dynnas.samplers.history import History, nondominated, ranks
from dynnas.samplers.model.cheap_metrics import Known
from dynnas.samplers.model.improvement import boxes, expected_improvement, thinned
from dynnas.samplers.model.surrogate import Belief, Kernel, fit_kernel

# Results that say what is usual, by which losses are scaled.
_SCALED_BY = 20

# Trials that a belief rests on, and of these, those that its kernel is fitted to.
_TRAINED, _FITTED = 256, 160

# Kernels are fitted again whenever the number of results has grown by this factor.
_GROWTH = 1.15

# Beyond this, worse losses are drawn together: how bad a bad network is matters little.
_PIVOT = 0.5

# A guess of a cheap metric may be wrong by a few per cent; what it puts just above a limit is computed.
_SLACK = 0.03

# Fewer feasible results than this say nothing of the objectives: first of all, limits are to be kept.
_ENOUGH = 2


@dataclass(frozen=True)
class Scale:
    """A scale that makes losses comparable: 0 is usual, -1 the best of the first; far worse ones are drawn
    together.
    """

    usual: np.ndarray
    unit: np.ndarray

    @staticmethod
    def of(losses: np.ndarray) -> Scale:
        """Make the scale from the first results, [points, objectives]."""
        usual, best, worst = np.median(losses, axis=0), losses.min(axis=0), losses.max(axis=0)
        unit = np.where(usual > best, usual - best, worst - best)
        return Scale(usual, np.where(unit > 0, unit, 1.0))

    def __call__(self, losses: np.ndarray, objective: int | slice = slice(None)) -> np.ndarray:
        """Scale losses [points, objectives], or [points] of one objective."""
        scaled = (losses - self.usual[objective]) / self.unit[objective]
        return np.where(scaled > _PIVOT, _PIVOT + np.log1p(np.maximum(scaled - _PIVOT, 0.0)), scaled)


class Fits:
    """A cache of kernels, each fitted to the first results and kept until there are considerably more.

    What is kept follows from the results alone, so that an interrupted search goes on as it would have.
    """

    def __init__(self) -> None:
        self._kernels: dict[tuple[str, int], tuple[bytes, Kernel]] = {}

    def kernel(self, name: str, features: np.ndarray, genes: np.ndarray, values: np.ndarray) -> Kernel:
        """Return the kernel for metric `name`, fitted to its known [points] `values` in the order of the
        trials.
        """
        count = _fitted_at(len(values))
        features, values = features[:count], values[:count]
        digest = features.tobytes() + values.tobytes()
        known = self._kernels.get((name, count))
        if known is None or known[0] != digest:
            rng = np.random.default_rng(count)
            chosen = _best_and_some(np.argsort(values, kind="stable"), _FITTED, rng)
            fitted = fit_kernel(features[chosen], genes, _standard(values[chosen])[0])
            self._kernels[name, count] = known = digest, fitted
        return known[1]


def _fitted_at(count: int) -> int:
    """Return the last number of results up to `count` at which kernels are fitted: 1, 2, ... and then ever
    more rarely.
    """
    at = math.ceil(_GROWTH ** math.floor(math.log(count, _GROWTH) + 1e-9))
    return min(at, count)


def _best_and_some(order: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return at most `count` of `order`: two thirds from its beginning, the rest from anywhere after that."""
    if len(order) <= most:
        return order
    best = 2 * most // 3
    return np.concatenate([order[:best], rng.choice(order[best:], most - best, replace=False)])


def _standard(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    mean, deviation = float(values.mean()), float(values.std()) or 1.0
    return (values - mean) / deviation, mean, deviation


@dataclass(frozen=True)
class Learned:
    """A surrogate of one metric, in the metric's own unit."""

    mean: float
    deviation: float
    belief: Belief

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict mean and deviation of an evaluation, with its noise: what genes do not explain is
        included.
        """
        mean, deviation = self.belief.predict(features)
        deviation = np.sqrt(deviation**2 + self.belief.kernel.noise)
        return self.mean + self.deviation * mean, self.deviation * deviation


class Outlook:
    """Judges architectures by the trials of `history`."""

    def __init__(
        self,
        genome: Genome,
        history: History,
        known: Known | None,
        fits: Fits,
        rng: np.random.Generator,
    ) -> None:
        self.history = history
        self._genome = genome
        self._known = known
        self._fits = fits
        self._rng = rng
        self._features = genome.features(history.rows)
        guesses = known.guesses if known else {}
        self._names = [objective.name for objective in known.goal.objectives] if known else []
        self._names += [f"objective {at}" for at in range(len(self._names), history.losses.shape[1])]
        self._guesses = guesses
        self._limits = {
            name: self._learned(f"limit {name}", values)
            for name, values in history.violations.items()
            if name not in guesses and np.isfinite(values).any()
        }
        self._enough = int(history.feasible.sum()) >= _ENOUGH
        if self._enough:
            self._look_at_objectives()

    def _learned(self, name: str, values: np.ndarray) -> Learned:
        """Return a surrogate from the known values; limits far from reach are drawn together."""
        at = np.flatnonzero(np.isfinite(values))
        values = np.clip(values[at], -1.0, 1.0)
        return self._belief(name, at, values, np.argsort(np.abs(values), kind="stable"))

    def _belief(self, name: str, at: np.ndarray, values: np.ndarray, order: np.ndarray) -> Learned:
        """Fit a surrogate to results `at` with `values`, the most telling of them first in `order`."""
        features = self._features[at]
        kernel = self._fits.kernel(name, features, self._genome.feature_genes, values)
        chosen = _best_and_some(order, _TRAINED, self._rng)
        scaled, mean, deviation = _standard(values[chosen])
        return Learned(mean, deviation, Belief(kernel, features[chosen], scaled))

    def _look_at_objectives(self) -> None:
        history, feasible = self.history, self.history.feasible
        early = history.losses[:_SCALED_BY][feasible[:_SCALED_BY]]
        if len(early) < _SCALED_BY // 4:
            early = history.losses[feasible][:_SCALED_BY]
        self._scale = Scale.of(early)
        full = np.flatnonzero(np.isfinite(history.losses).all(axis=1))
        scaled = self._scale(history.losses[full])
        order = np.argsort(ranks(scaled) + ~feasible[full], kind="stable")
        self._beliefs = [
            None if name in self._guesses else self._belief(name, full, scaled[:, at], order)
            for at, name in enumerate(self._names)
        ]
        known = np.concatenate([scaled[feasible[full]], self._pending()])
        front = known[nondominated(known)]
        # Costs count up to the worst that was seen, so that a better network may be dearer than any of the
        # front; what is maximised is wanted good, and below the usual only a little counts.
        reference = scaled[feasible[full]].max(axis=0)
        reference = np.where(history.maximised, np.minimum(reference, _PIVOT), reference)
        reference = np.where(reference > front.min(axis=0), reference, front.min(axis=0) + 1.0)
        self._low, self._high = boxes(thinned(front, front.shape[1]), reference)

    def _pending(self) -> np.ndarray:
        """Add running evaluations with their expected values, so that others look elsewhere."""
        if not len(self.history.pending):
            return np.zeros((0, len(self._names)))
        return self._objectives(self.history.pending, exact=True)[0]

    def worth(self, rows: Rows) -> np.ndarray:
        """Return the hypervolume that each row is expected to add, by guesses of the cheap metrics:
        [rows].
        """
        return self._worth(rows, exact=False)

    def exact_worth(self, rows: Rows) -> np.ndarray:
        """Return the same with cheap metrics computed; negative for an architecture that cannot be evaluated
        or breaks a limit.
        """
        worth = self._worth(rows, exact=True)
        assert self._known is not None
        usable = np.zeros(len(rows), dtype=bool)
        usable[self._known.worth_trying(rows)] = True
        return np.where(usable, worth, worth - worth.max() - 1.0)

    def _worth(self, rows: Rows, exact: bool) -> np.ndarray:
        if not len(rows):
            return np.zeros(0)
        worth = np.ones(len(rows))
        if self._enough:
            worth = expected_improvement(*self._objectives(rows, exact), self._low, self._high)
        features = self._genome.features(rows)
        for learned in self._limits.values():
            mean, deviation = learned.predict(features)
            worth = worth * ndtr(-mean / np.maximum(deviation, 1e-9))
        if not exact and self._known:
            for name, guess in self._guesses.items():
                limit = self._known.goal.constraints.get(name, np.inf)
                worth = worth * (guess(features) <= limit + _SLACK * abs(limit))
        return worth

    def _objectives(self, rows: Rows, exact: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return means and deviations of the scaled losses, [rows, objectives] each."""
        features = self._genome.features(rows)
        mean, deviation = np.zeros((len(rows), len(self._names))), np.zeros((len(rows), len(self._names)))
        for at, (name, belief) in enumerate(zip(self._names, self._beliefs, strict=True)):
            if belief is not None:
                mean[:, at], deviation[:, at] = belief.predict(features)
                continue
            assert self._known is not None
            values = self._guesses[name](features)
            if exact:
                values = _computed(self._known, name, rows, values)
            mean[:, at] = self._scale(self._known.goal.objectives[at].sign * values, at)
        return mean, deviation


def _computed(known: Known, name: str, rows: Rows, guesses: np.ndarray) -> np.ndarray:
    """Return the cheap metric of every row that has one, and the guess for the others."""
    exact = [known.exact(row) for row in rows]
    pairs = zip(exact, guesses, strict=True)
    return np.array([guess if metrics is None else metrics[name] for metrics, guess in pairs], dtype=float)
