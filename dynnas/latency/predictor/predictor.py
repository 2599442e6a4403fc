"""A predictor of a network's latency from its pieces, for any network of a space, after minutes of measuring.

A network takes about what its pieces take, each timed alone. What is not additive is learned from whole
networks: a piece alone has its weights in the innermost cache and its input in no particular layout, and in
a network neither holds, to a degree that depends on the kind of its layers and the size of its weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.documents import Document
from dynnas.errors import TargetError
from dynnas.files import cache_folder
from dynnas.latency.predictor.layer_times import PieceTimes
from dynnas.latency.predictor.layers import ExitPath
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.layer_features import Piece, Traits, traits
from dynnas.space.space import Space

DOCUMENT = Document("dynnas_predictor", 2, "run dynnas calibrate again", TargetError)

_CACHED_MEBIBYTES = 0.5
"""Weights beyond about this come from an outer cache."""

_SIZES = 6
"""The number of sizes that `_sizes` returns."""

_EXITS = 3
"""The number of exit features that `_exits` returns."""

# How far from additive a network may be: standard deviations of the prior of the coefficients, as parts of
# the mean network's time (or, for the first, of the pieces' own time), and of the rest.
_KIND, _PIECE, _NETWORK, _SIZE, _EXIT, _NOISE = 0.2, 0.02, 0.05, 0.1, 0.1, 0.02
# What all blocks have in common is learned sooner than what only one kind of them does.
_BLOCKS, _BLOCK = 0.2, 0.05


@dataclass(frozen=True)
class LatencyPredictor:
    """A predictor of latencies as multiples of the anchors' time.

    Attributes:
        pieces: times of pieces alone.
        kinds: of pieces, see `Traits.kind`.
        unit: the time of the mean network.
        coefficients: of what `_terms` lists.
        error: standard deviation of the relative error, by leaving out one network at a time.
        environment: digest of the fingerprint of where it holds.
    """

    pieces: PieceTimes
    kinds: tuple[str, ...]
    unit: float
    coefficients: np.ndarray
    error: float
    environment: str

    @staticmethod
    def fit(
        pieces: Sequence[Piece],
        piece_times: np.ndarray,
        ways: Sequence[ExitPath],
        way_times: np.ndarray,
        environment: str,
    ) -> LatencyPredictor:
        """Fit to measured pieces (their times alone) and to paths through whole networks.

        Args:
            pieces: with `piece_times` (pieces,).
            ways: with `way_times` (ways,), in the same unit.
            environment: digest of the environment in which they were measured.
        """
        kinds = tuple(sorted({traits(piece).kind for piece in pieces}))
        alone = PieceTimes.fit([traits(piece).numbers for piece in pieces], piece_times)
        unit = float(way_times.mean())
        count = len(kinds)
        expected = np.r_[np.ones(count), np.zeros(count + 2 + 1 + _SIZES + _EXITS)]
        spread = np.r_[
            np.full(count, _KIND), np.full(count, _PIECE), _BLOCKS, _BLOCK,
            _NETWORK, np.full(_SIZES, _SIZE), np.full(_EXITS, _EXIT),
        ]  # fmt: skip
        draft = LatencyPredictor(alone, kinds, unit, expected, 0.0, environment)
        # Relative errors count: each row is divided by what it should give.
        rows = draft._terms(ways) * unit / way_times[:, None]
        scaled = rows * spread
        gram = scaled.T @ scaled + _NOISE**2 * np.eye(len(expected))
        coefficients = expected + spread * np.linalg.solve(gram, scaled.T @ (1 - rows @ expected))
        leverage = np.einsum("ij,ji->i", scaled, np.linalg.solve(gram, scaled.T))
        left_out = (1 - rows @ coefficients) / (1 - leverage)
        error = float(np.sqrt(np.mean(left_out**2)))
        return LatencyPredictor(alone, kinds, unit, coefficients, error, environment)

    def predict(self, config: NetworkConfig) -> tuple[float, ...]:
        """Predict the time of an image that leaves at each exit, then at the head.

        Times are multiples of the anchors' time.
        """
        ways = [ExitPath(config, exit) for exit in range(len(config.exits) + 1)]
        return tuple((self._terms(ways) @ self.coefficients * self.unit).tolist())

    @property
    def digest(self) -> str:
        """Return sixteen hexadecimal digits that name the predictor."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return a document that `load_predictor` reads back."""
        return DOCUMENT.write(
            {**self.__dict__, "pieces": self.pieces.to_dict(), "coefficients": self.coefficients.tolist()}
        )

    def _terms(self, ways: Sequence[ExitPath]) -> np.ndarray:
        """Return the terms (ways, terms) of the prediction.

        They are times (in `unit`) and numbers of pieces, by kind and of blocks; 1; sizes; exits.
        """
        every = list(dict.fromkeys(piece for way in ways for piece in way.pieces))
        times = self.pieces.predict([traits(piece).numbers for piece in every]) / self.unit
        known = dict(zip(every, times.tolist(), strict=True))
        return np.array([self._terms_of(way, known) for way in ways])

    def _terms_of(self, way: ExitPath, times: Mapping[Piece, float]) -> list[float]:
        found = [(times[piece], traits(piece)) for piece in way.pieces]
        by_kind = {kind: [0.0, 0.0] for kind in self.kinds}
        for time, of in found:
            # A kind that calibration never met is taken for one that adds up.
            place = by_kind.setdefault(of.kind, [0.0, 0.0])
            place[0] += time
            place[1] += 1
        unknown = sum(time for kind, (time, _) in by_kind.items() if kind not in self.kinds)
        sums = [by_kind[kind][0] for kind in self.kinds]
        sums[0] += unknown
        counts = [by_kind[kind][1] for kind in self.kinds]
        blocks = [time for piece, (time, _) in zip(way.pieces, found, strict=True) if piece.is_block]
        of_all = [sum(blocks), float(len(blocks))]
        return [*sums, *counts, *of_all, 1.0, *_sizes([of for _, of in found]), *_exits(way)]


def _sizes(path: Sequence[Traits]) -> tuple[float, ...]:
    """Return MiB of weights and of maps.

    Weights are all, those beyond the inner cache, and dynamic ones. Maps are all, dynamic ones, and those
    between static and dynamic layers, which are laid out differently.
    """
    weights = sum(piece.mebibytes for piece in path)
    maps = [piece.output_mebibytes for piece in path]
    turned = [size for size, a, b in zip(maps, path, path[1:], strict=False) if a.dynamic != b.dynamic]
    return (
        weights,
        max(weights - _CACHED_MEBIBYTES, 0.0),
        sum(piece.mebibytes for piece in path if piece.dynamic),
        sum(maps),
        sum(size for size, piece in zip(maps, path, strict=True) if piece.dynamic),
        sum(turned),
    )


def _exits(way: ExitPath) -> tuple[float, ...]:
    """Return whether the network has exits, whether the image leaves by one, and how many it passes.

    Each decision ends a graph whose layers could have been prepared together.
    """
    exits = len(way.config.exits)
    return float(exits > 0), float(way.exit < exits), float(way.exit)


def predictor_file(space: Space, channels: int, classes: int, environment: str) -> Path:
    """Return the file of the predictor of a space's networks, for such data and environment.

    All studies share it.
    """
    parts = f"{space.digest} {channels} {classes} {environment}"
    return cache_folder() / "predictors" / f"{hashlib.sha256(parts.encode()).hexdigest()[:16]}.json"


def _predictor(document: dict[str, Any]) -> LatencyPredictor:
    read = {
        "pieces": PieceTimes.from_dict(document["pieces"]),
        "kinds": tuple(document["kinds"]),
        "coefficients": np.array(document["coefficients"]),
    }
    return LatencyPredictor(**{**document, **read})


def load_predictor(path: Path, environment: str) -> LatencyPredictor | None:
    """Return the predictor in the file `path`.

    It is None if there is none, or it was fitted in another environment.

    Raises:
        TargetError: the file holds something else.
    """
    if not path.exists():
        return None
    predictor = DOCUMENT.load(path, _predictor)
    return predictor if predictor.environment == environment else None


@dataclass(frozen=True)
class Agreement:
    """The errors of predictions for networks that were not used in fitting.

    Attributes:
        networks: compared.
        within_5, within_10: shares within 5% and 10%.
        median_error: median relative difference.
    """

    networks: int
    kendall_tau: float
    spearman: float
    within_5: float
    within_10: float
    median_error: float

    @staticmethod
    def of(predicted: np.ndarray, measured: np.ndarray) -> Agreement:
        """Compare (networks,) with (networks,)."""
        from scipy import stats

        error = np.abs(predicted / measured - 1)
        return Agreement(
            networks=len(measured),
            kendall_tau=float(stats.kendalltau(predicted, measured).statistic),
            spearman=float(stats.spearmanr(predicted, measured).statistic),
            within_5=float((error <= 0.05).mean()),
            within_10=float((error <= 0.10).mean()),
            median_error=float(np.median(error)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)
