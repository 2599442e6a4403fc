"""The acquisition function: the value that the trials so far lead one to expect of untried architectures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome, Layout, Rows
from dynnas.samplers.history import INFINITE, History, nondominated, ranks
from dynnas.samplers.model.cheap_metrics import Known
from dynnas.samplers.model.improvement import boxes, expected_improvement, thinned
from dynnas.samplers.model.surrogate import (
    ADDITIVE,
    ALIKE,
    INTERACTING,
    SMOOTH,
    Belief,
    Kernel,
    Prior,
    fit_kernel,
)
from dynnas.samplers.model.warp import WEIGHTS, Warp, mean_ranks

# Trials that a belief rests on, and of these, those that its kernel is fitted to.
_TRAINED, _FITTED = 512, 100

# Kernels are fitted again whenever the number of results has grown by this factor.
_GROWTH = 1.25

# Random architectures by whose expected losses, and first results by which, the usual loss is estimated.
_SURVEYED, _FIRST = 400, 10

# The reference is drawn between the usual loss, which is an estimate, and this share of the way to the best.
_STRICTER = 0.5

# Of losses that are all minimised the first is taken for an error if the front goes beyond the usual loss by
# this many times as much as the best is below it.
_FAR = 3.0

# A network that is better and dearer than the front counts as if its cost were this far below the reference,
# in ranges of the front: `_LEAST`, and up to `_MARGIN` more the nearer it is to the front.
_MARGIN, _LEAST = 0.5, 0.3

# Kinds of warp with priors of the kernel; the pair that ranks left-out results best is taken.
_VIEWS = (("rank", ALIKE), ("linear", ALIKE), ("linear", ADDITIVE), ("rank", INTERACTING))
_VIEWS_OF_NUMBERS = (("rank", ALIKE), ("linear", ALIKE), ("linear", SMOOTH), ("rank", INTERACTING))

# Number of results before which a cheap objective is learned as others are: while little is known of these,
# certain costs draw proposals to the cheapest networks. Limits on cheap metrics are kept from the first.
_UNINFORMED = 40

# A guess of a cheap metric may be wrong by a few per cent; what it puts just above a limit is computed.
_SLACK = 0.03

# Fewer feasible results than this say nothing of the objectives: first of all, limits are to be kept.
_ENOUGH = 2


@dataclass(frozen=True)
class View:
    """The model of an objective: the kind of its warp, and the kernel of its process."""

    kind: str
    kernel: Kernel


class Fits:
    """A cache of views, which are fitted to the first results and kept until there are considerably more.

    Its content follows from the results alone, so that an interrupted search goes on as it would have.
    """

    def __init__(self) -> None:
        self._views: dict[tuple[str, int], tuple[bytes, View]] = {}

    def view(
        self, name: str, features: np.ndarray, layout: Layout, values: np.ndarray, forecast: Belief | None
    ) -> View:
        """Return the view of metric `name` with known `values`, [points], in the order of the trials.

        `layout` is that of the features with the forecast, if there is one.
        """
        count = _fitted_at(len(values))
        features, values = features[:count], values[:count]
        digest = features.tobytes() + values.tobytes()
        known = self._views.get((name, count))
        if known is None or known[0] != digest:
            rng = np.random.default_rng(count)
            chosen = _best_and_some(np.argsort(values, kind="stable"), _FITTED, rng)
            view = _best_view(_with_forecast(features[chosen], forecast), layout, values[chosen])
            self._views[name, count] = known = digest, view
        return known[1]


def _best_view(features: np.ndarray, layout: Layout, values: np.ndarray) -> View:
    views, errors = [], []
    pairs: tuple[tuple[str, Prior], ...] = _VIEWS_OF_NUMBERS if layout.smooth else _VIEWS
    if layout.forecasts:  # it may say nothing
        pairs = (*pairs, *((kind, replace(prior, forecast=None)) for kind, prior in pairs))
    for kind, prior in pairs:
        warped = Warp.of(kind, values)(values)
        kernel = fit_kernel(features, layout, warped, prior)
        views.append(View(kind, kernel))
        errors.append(_rank_error(Belief(kernel, features, warped).left_out(), values))
    return views[int(np.argmin(errors))]


def _rank_error(guesses: np.ndarray, values: np.ndarray) -> float:
    """Return how far the ranks of guesses are from those of the values; the better half counts twice."""
    off = mean_ranks(guesses) - mean_ranks(values)
    return float(np.abs(off).mean() + np.abs(off[values <= np.median(values)]).mean())


def _fitted_at(count: int) -> int:
    """Return the last number of results up to `count` at which kernels are fitted.

    These are 1, 2, ... and then ever more rarely.
    """
    at = math.ceil(_GROWTH ** math.floor(math.log(count, _GROWTH) + 1e-9))
    return min(at, count)


def _best_and_some(order: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return at most `count` of `order`: two thirds from its beginning, the rest from anywhere after that."""
    if len(order) <= most:
        return order
    best = 2 * most // 3
    return np.concatenate([order[:best], rng.choice(order[best:], most - best, replace=False)])


@dataclass(frozen=True)
class Learned:
    """A surrogate of one metric, in the metric's own unit.

    Attributes:
        warp: of the metric.
        belief: about warped values.
        chosen: the places of its observations among the results.
        forecast: of the metric, if there is one; the belief sees it.
        error: the variance of an evaluation's own error, as far as it is known, in warped values. The rest of
            the kernel's noise is what no gene explains; it is part of the architecture.
    """

    warp: Warp
    belief: Belief
    chosen: np.ndarray
    forecast: Belief | None = None
    error: float = 0.0

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return true losses at the nodes of the warp, [points, nodes]."""
        mean, deviation = self.belief.predict(_with_forecast(features, self.forecast))
        return self.warp.quantiles(mean, np.sqrt(deviation**2 + self.belief.kernel.noise - self.error))

    def corrected(self) -> np.ndarray:
        """Return the losses of the observations as expected without their error, [chosen]."""
        return self.warp.inverse(self.belief.without(self.error))

    def middle(self, features: np.ndarray) -> np.ndarray:
        """Return the median alone, [points], which costs far less."""
        return self.warp.inverse(self.belief.mean(_with_forecast(features, self.forecast)))


def _with_forecast(features: np.ndarray, forecast: Belief | None) -> np.ndarray:
    return features if forecast is None else np.column_stack([features, forecast.mean(features)])


def scaled(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return losses of moderate size, which no square or product of objectives overflows.

    Args:
        losses: [points, objectives]; those beyond `INFINITE` count as infinite.

    Returns:
        Units, [objectives], which are powers of two so that nothing is rounded; and losses in them, where
        infinite ones are as far beyond the worst finite one as that is from the best.
    """
    units, found = np.ones(losses.shape[1]), losses.copy()
    for at, values in enumerate(losses.T):
        finite = values[np.abs(values) < INFINITE]
        if not len(finite):
            found[:, at] = np.sign(values)
            continue
        units[at] = 2.0 ** np.floor(np.log2(np.abs(finite).max() or 1.0))
        low, high = finite.min() / units[at], finite.max() / units[at]
        beyond = (high - low) or 1.0
        values = values / units[at]
        values = np.where(losses[:, at] >= INFINITE, high + beyond, values)
        found[:, at] = np.where(losses[:, at] <= -INFINITE, low - beyond, values)
    return units, found


class Outlook:
    """Judges architectures by the trials of `history`."""

    def __init__(
        self,
        genome: Genome,
        history: History,
        known: Known | None,
        fits: Fits,
        rng: np.random.Generator,
        goal: Goal | None = None,
        forecasts: Mapping[str, Belief] | None = None,
        errors: Mapping[str, float] | None = None,
    ) -> None:
        self.history = history
        self._genome = genome
        self._known = known
        self._fits = fits
        self._rng = rng
        self._features = genome.features(history.rows)
        self._cheap = known.survey[1] if known else {}
        self._certain = self._cheap if len(history.rows) >= _UNINFORMED else {}
        self._forecasts = forecasts or {}
        self._errors = errors or {}
        self._names = [objective.name for objective in goal.objectives] if goal else []
        self._names += [f"objective {at}" for at in range(len(self._names), history.losses.shape[1])]
        self._limits = {
            name: self._learned(name, values)
            for name, values in history.violations.items()
            if name not in self._cheap and np.isfinite(values).any()
        }
        self._enough = int(history.feasible.sum()) >= _ENOUGH
        if self._enough:
            self._look_at_objectives()

    def _learned(self, name: str, values: np.ndarray) -> Learned:
        """Return a surrogate from the known values; limits far from reach are drawn together."""
        at = np.flatnonzero(np.isfinite(values))
        values = np.clip(values[at], -1.0, 1.0)
        order = np.argsort(np.abs(values), kind="stable")
        return self._belief(f"limit {name}", self._features[at], values, order, self._forecasts.get(name))

    def _belief(
        self,
        name: str,
        features: np.ndarray,
        values: np.ndarray,
        order: np.ndarray,
        forecast: Belief | None,
        error: float = 0.0,
    ) -> Learned:
        """Return a surrogate from results with `values`, the most informative of them first in `order`.

        `error` is the known deviation of an evaluation.
        """
        layout = self._genome.layout if forecast is None else self._genome.layout.with_forecast()
        view = self._fits.view(name, features, layout, values, forecast)
        chosen = _best_and_some(order, _TRAINED, self._rng)
        warp = Warp.of(view.kind, values[chosen])
        known = warp.variance(values[chosen], error)
        kernel = replace(view.kernel, noise=max(view.kernel.noise, known))
        belief = Belief(kernel, _with_forecast(features[chosen], forecast), warp(values[chosen]))
        return Learned(warp, belief, chosen, forecast, known)

    def _belief_on(self, objective: int, full: np.ndarray, losses: np.ndarray, order: np.ndarray) -> Learned:
        """Return a surrogate from the results `full` and, of a cheap objective, from its survey."""
        name, features, values = self._names[objective], self._features[full], losses[:, objective]
        if name in self._certain:
            assert self._known is not None
            rows, metrics = self._known.survey
            surveyed = self._known.goal.objectives[objective].sign * metrics[name] / self._units[objective]
            features = np.concatenate([self._genome.features(rows), features])
            values = np.concatenate([surveyed, values])
            order = np.concatenate([order + len(rows), np.arange(len(rows))])
            return self._belief(name, features, values, order, self._forecasts.get(name))
        error = self._errors.get(name, 0.0) / self._units[objective]
        forecast = self._forecasts.get(name)
        if forecast is None and self._known is not None and name not in self._cheap:
            forecast = self._known.hint
        return self._belief(name, features, values, order, forecast, error)

    def _look_at_objectives(self) -> None:
        history, feasible = self.history, self.history.feasible
        full = np.flatnonzero(np.isfinite(history.losses).all(axis=1))
        self._units, losses = scaled(history.losses[full])
        order = np.argsort(ranks(losses) + ~feasible[full], kind="stable")
        self._beliefs = [self._belief_on(at, full, losses, order) for at in range(len(self._names))]
        for at, learned in enumerate(self._beliefs):
            if learned.error > 0:
                losses[learned.chosen, at] = learned.corrected()
        known = np.concatenate([losses[feasible[full]], self._pending()])
        front = known[nondominated(known)]
        usual = self._usual(losses)
        self._bound(front, np.where(self._is_quality(front, usual), usual, np.inf))
        self._low, self._high = boxes(thinned(front, front.shape[1]), self._reference)

    def _usual(self, losses: np.ndarray) -> np.ndarray:
        """Return an estimate of the median of random architectures, [objectives].

        It is the mean of the median of the first results, which are few, and of what the model expects, which
        is biased towards the results that it has.
        """
        surveyed = self._genome.features(self._genome.sample(_SURVEYED, self._rng))
        expected = [np.median(belief.middle(surveyed)) for belief in self._beliefs]
        return 0.5 * (np.array(expected) + np.median(losses[:_FIRST], axis=0))

    def _is_quality(self, front: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """Return which objectives are of no use beyond the usual loss, [objectives] bool.

        They are those that are maximised. Where none is, the first is, as an error before a cost, if the
        front goes far beyond the usual loss there: so do the cheapest networks, which have learned nothing.
        """
        quality = self.history.maximised.copy()
        if len(quality) > 1 and not quality.any():
            best, worst = front[:, 0].min(), front[:, 0].max()
            quality[0] = worst - usual[0] > _FAR * (usual[0] - best)
        return quality

    def _bound(self, front: np.ndarray, usual: np.ndarray) -> None:
        """Set the reference: of what is maximised about the usual loss; of costs, beyond the front.

        A network that is better than the front counts however dear it is, though less (`_drawn_together`).
        """
        bounded = np.isfinite(usual)
        good = front[(front <= usual).all(axis=1)]
        good = good if len(good) else front
        best, worst = good.min(axis=0), good.max(axis=0)
        spread = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1e-9))
        self._worst, self._margin = np.where(bounded, np.inf, worst), _MARGIN * spread
        usual = np.where(bounded, usual, worst)
        usual = usual - _STRICTER * self._rng.random() * np.maximum(usual - best, 0.0)
        usual = np.where(usual > best, usual, best + spread)
        self._reference = np.where(bounded, usual, worst + self._margin + _LEAST * spread)

    def _drawn_together(self, losses: np.ndarray, objective: int) -> np.ndarray:
        """Return losses, with those beyond the front moved nearer to it."""
        worst, margin = self._worst[objective], self._margin[objective]
        beyond = np.maximum(losses - worst, 0.0)
        return np.where(losses > worst, worst + margin * beyond / (margin + beyond), losses)

    def _pending(self) -> np.ndarray:
        """Add running evaluations with their expected values, so that others look elsewhere."""
        if not len(self.history.pending):
            return np.zeros((0, len(self._names)))
        expected = self._objectives(self.history.pending, exact=True)
        return np.stack([nodes[:, nodes.shape[1] // 2] for nodes in expected], axis=1)

    def worth(self, rows: Rows) -> np.ndarray:
        """Return the hypervolume that each row is expected to add, by guesses of cheap metrics: [rows]."""
        return self._worth(rows, exact=False)

    def exact_worth(self, rows: Rows) -> np.ndarray:
        """Return the same with cheap metrics computed.

        It is negative for an architecture that cannot be evaluated or breaks a limit.
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
            losses = [
                self._drawn_together(nodes, at) for at, nodes in enumerate(self._objectives(rows, exact))
            ]
            worth = expected_improvement(losses, self._low, self._high)
        features = self._genome.features(rows)
        for learned in self._limits.values():
            worth = worth * ((learned.predict(features) <= 0) @ WEIGHTS)
        if not exact and self._known:
            for name, limit in self._known.goal.constraints.items():
                if name in self._cheap:
                    guess = self._known.guesses[name](features)
                    worth = worth * (guess <= limit + _SLACK * abs(limit))
        return worth

    def _objectives(self, rows: Rows, exact: bool) -> list[np.ndarray]:
        """Return the losses of each objective, [rows, nodes]; [rows, 1] where they are known."""
        features = self._genome.features(rows)
        found = [belief.predict(features) for belief in self._beliefs]
        known = self._known
        if not exact or known is None:
            return found
        for at, name in enumerate(self._names):
            if name in self._certain:
                exact_metrics = [known.exact(row) for row in rows]
                sign = known.goal.objectives[at].sign / self._units[at]
                middle = found[at][:, found[at].shape[1] // 2]
                # What cannot be evaluated has no metrics.
                values = [
                    guess if metrics is None else sign * metrics[name]
                    for metrics, guess in zip(exact_metrics, middle, strict=True)
                ]
                found[at] = np.array(values, dtype=float)[:, None]
        return found
