"""Whether times of other devices help to predict a new one from few networks: each device is once left out.

    python tests/bench/transfer.py studies/latency/results-devices.json

It reads what `predictor_times.py` measured. Every device is once the new one: the times of 3 to 50 of its
networks are known, and no layer is timed. The others are known by the times of layers and of whole networks.
These are of other spaces alone (`out`), or of the new device's space as well (`in`); and of all other devices
(`like`), or without those of the same library (`unlike`). Predicted are networks that were not fitted to.

Without other devices:
*law*: a layer's time is a sum of its multiply-adds, weights, maps and 1, fitted to the networks.
*features*: as *line*, about the law in place of known devices.
*layers*, *handful*: as `dynnas calibrate`, up to 8 layers, or 1, for each network are timed there as well.
With them:
*nearest*: the known device to which the new one is proportional with the smallest error.
*mixture*: a non-negative combination of the known devices.
*line*: logarithms of the known devices' times, and the mean features of a network's layers, by Bayesian
regression about the devices' mean.
*chosen*: features or line, whichever errs less where one of the fitted networks is left out.
*layers_about*, *handful_about*: the timed layers relative to the mixture.
*law*, *layers*, *nearest* and *mixture* are corrected on the networks as `LatencyPredictor` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from layer_process import Process
from predictor_times import Timed, load_times
from scipy.optimize import nnls

from dynnas.latency.predictor.layers import ExitPath
from dynnas.latency.predictor.predictor import Agreement
from dynnas.nn.networks.layer_features import Piece, Traits, traits

COUNTS = (3, 5, 10, 20, 50)
HELD_OUT, DRAWS, LAYERS_FOR_EACH = 20, 3, 8
NOISE = 0.04
"""Standard deviation of a network's logarithm that no method explains."""

RIDGE = 0.03

Prediction = tuple[np.ndarray, float]
"""Times (networks,) of all networks, and the error at those fitted to, each left out."""


@dataclass
class Networks:
    """Networks as counts of their layers: (networks, layers)."""

    ways: list[ExitPath]
    layers: list[Piece]

    @staticmethod
    def of(ways: Sequence[ExitPath]) -> Networks:
        return Networks(list(ways), list(dict.fromkeys(piece for way in ways for piece in way.pieces)))

    @cached_property
    def traits(self) -> list[Traits]:
        return [traits(layer) for layer in self.layers]

    @cached_property
    def counts(self) -> np.ndarray:
        place = {layer: index for index, layer in enumerate(self.layers)}
        counts = np.zeros((len(self.ways), len(self.layers)))
        for row, way in zip(counts, self.ways, strict=True):
            for piece in way.pieces:
                row[place[piece]] += 1
        return counts

    @cached_property
    def kinds(self) -> list[str]:
        return sorted({each.kind for each in self.traits})

    @cached_property
    def of_kind(self) -> np.ndarray:
        """(layers, kinds)."""
        return np.array([[each.kind == kind for kind in self.kinds] for each in self.traits], dtype=float)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(layers, 4): millions of multiply-adds, MiB of weights and of maps, 1."""
        rows = [(each.macs / 1e6, each.mebibytes, each.output_mebibytes, 1.0) for each in self.traits]
        return np.array(rows)

    @cached_property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """(layers, features), centred and sizes to a deviation of 1; and which are choices."""
        names = sorted({name for each in self.traits for name in each.numbers})
        table = np.array([[each.numbers.get(name, 0.0) for name in names] for each in self.traits])
        kept = table.std(0) > 0
        choices = np.array(["=" in name for name in names])[kept]
        table = table[:, kept] - table[:, kept].mean(0)
        return np.where(choices, table, table / table.std(0)), choices

    def terms(self, layer_ms: np.ndarray) -> np.ndarray:
        """(networks, terms) of what is not additive, in ms: by kind, 1, sizes, exits."""
        mean = float((self.counts @ layer_ms).mean())
        weights = self.counts @ self.sizes[:, 1]
        maps = self.counts @ self.sizes[:, 2]
        return np.column_stack(
            [
                self.counts @ (self.of_kind * layer_ms[:, None]),
                mean * self.counts @ self.of_kind,
                np.full(len(self.ways), mean),
                mean * np.column_stack([weights, np.maximum(weights - 0.5, 0), maps]),
                mean * self.exits,
            ]
        )

    @cached_property
    def exits(self) -> np.ndarray:
        """(networks, 3): whether there are exits, whether the image leaves by one, how many it passes."""
        exits = [(len(way.config.exits), way.exit) for way in self.ways]
        return np.array([(count > 0, taken < count, taken) for count, taken in exits], dtype=float)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviations of the coefficients of `terms`, as those of `LatencyPredictor`."""
        count = len(self.kinds)
        return np.r_[np.full(count, 0.2), np.full(count, 0.02), 0.05, np.full(6, 0.1)]


class Known:
    """A device whose layers and networks were timed. It predicts any network of any space."""

    def __init__(self, spaces: Sequence[Timed], device: str) -> None:
        spaces = [space for space in spaces if device in space.way_ms]
        self.timed = {
            layer: ms
            for space in spaces
            for layer, ms in zip(space.pieces, space.piece_ms[device], strict=True)
            if np.isfinite(ms)
        }
        self.process = Process([traits(layer) for layer in self.timed], np.array(list(self.timed.values())))
        ms = np.concatenate([geometric(space.way_ms[device]) for space in spaces])
        runs = np.isfinite(ms)
        ways = [way for space in spaces for way in space.ways]
        networks = Networks.of([way for way, ran in zip(ways, runs, strict=True) if ran])
        layer_ms = self.layers(networks)
        base, terms, count = networks.counts @ layer_ms, networks.terms(layer_ms), len(networks.kinds)
        coefficients, _ = correct(base, terms, networks.spread, ms[runs], range(runs.sum()))
        # What a layer adds to a network is a part of its time alone, and a time, by its kind.
        parts, times = 1 + coefficients[:count], base.mean() * coefficients[count : 2 * count]
        self.factor = dict(zip(networks.kinds, zip(parts, times, strict=True), strict=True))

    def layers(self, networks: Networks) -> np.ndarray:
        """Times (layers,) of layers alone."""
        predicted = self.process.predict(networks.traits)
        return np.array(
            [self.timed.get(layer, ms) for layer, ms in zip(networks.layers, predicted, strict=True)]
        )

    def inside(self, networks: Networks) -> np.ndarray:
        """Times (layers,) that layers add to a network."""
        alone = self.layers(networks)
        factors = np.array([self.factor.get(each.kind, (1.0, 0.0)) for each in networks.traits])
        return np.maximum(factors[:, 0] * alone + factors[:, 1], 0.1 * alone)


def geometric(turns: np.ndarray) -> np.ndarray:
    return np.exp(np.log(turns).mean(0))


def correct(
    base: np.ndarray, terms: np.ndarray, spread: np.ndarray, ms: np.ndarray, fitted: Sequence[int]
) -> tuple[np.ndarray, Prediction]:
    """Coefficients (terms,) by which networks differ from `base`, and what follows; relative errors count."""
    rows = terms[fitted] / ms[fitted, None] * spread
    gram = rows.T @ rows + 0.02**2 * np.eye(len(spread))
    solved = np.linalg.solve(gram, rows.T)
    coefficients = spread * (solved @ (1 - base[fitted] / ms[fitted]))
    predicted = base + terms @ coefficients
    left_out = (1 - predicted[fitted] / ms[fitted]) / (1 - np.einsum("ij,ji->i", rows, solved))
    return coefficients, (predicted, float(np.sqrt(np.mean(left_out**2))))


def combine(columns: np.ndarray, ms: np.ndarray, fitted: Sequence[int]) -> np.ndarray:
    """Non-negative weights of columns (networks, columns), drawn to equal parts of each at its best scale."""
    rows = columns[fitted] / ms[fitted, None]
    scale = rows.sum(0) / (rows**2).sum(0)
    count = columns.shape[1]
    system = np.vstack([rows * scale, np.sqrt(RIDGE) * np.eye(count)])
    wanted = np.r_[np.ones(len(rows)), np.full(count, np.sqrt(RIDGE) / count)]
    return nnls(system, wanted)[0] * scale


@dataclass
class Case:
    """A new device with its networks' times (networks,), and the known devices' layers inside of networks."""

    networks: Networks
    ms: np.ndarray
    inside: np.ndarray  # (layers, devices)
    layer_ms: Mapping[Piece, float]

    def corrected(self, layer_ms: np.ndarray, fitted: Sequence[int]) -> Prediction:
        terms = self.networks.terms(layer_ms)
        base = self.networks.counts @ layer_ms
        return correct(base, terms, self.networks.spread, self.ms, fitted)[1]


def law(case: Case, fitted: Sequence[int]) -> Prediction:
    sizes = case.networks.sizes
    return case.corrected(sizes @ combine(case.networks.counts @ sizes, case.ms, fitted), fitted)


def layers(
    case: Case, fitted: Sequence[int], most: int = LAYERS_FOR_EACH, about: np.ndarray | None = None
) -> Prediction:
    """With up to `most` timed layers for each network, about guesses (layers,)."""
    networks = case.networks
    guesses = np.ones(len(networks.layers)) if about is None else about
    inside = networks.counts[fitted].any(0)
    timed = [i for i in np.flatnonzero(inside) if networks.layers[i] in case.layer_ms]
    timed = timed[: most * len(fitted)]
    ms = np.array([case.layer_ms[networks.layers[i]] for i in timed])
    process = Process([networks.traits[i] for i in timed], ms / guesses[timed])
    return case.corrected(process.predict(networks.traits) * guesses, fitted)


def handful(case: Case, fitted: Sequence[int]) -> Prediction:
    return layers(case, fitted, most=1)


def handful_about(case: Case, fitted: Sequence[int]) -> Prediction:
    return layers(case, fitted, most=1, about=mixed(case, fitted))


def layers_about(case: Case, fitted: Sequence[int]) -> Prediction:
    return layers(case, fitted, about=mixed(case, fitted))


def nearest(case: Case, fitted: Sequence[int]) -> Prediction:
    ratios = np.log(case.ms[fitted, None] / (case.networks.counts @ case.inside)[fitted])
    best = int(np.argmin(ratios.std(0)))
    return case.corrected(case.inside[:, best] * np.exp(ratios[:, best].mean()), fitted)


def mixed(case: Case, fitted: Sequence[int]) -> np.ndarray:
    return case.inside @ combine(case.networks.counts @ case.inside, case.ms, fitted)


def mixture(case: Case, fitted: Sequence[int]) -> Prediction:
    return case.corrected(mixed(case, fitted), fitted)


def features(case: Case, fitted: Sequence[int]) -> Prediction:
    sizes = case.networks.sizes
    layer_ms = sizes @ combine(case.networks.counts @ sizes, case.ms, fitted)
    return regress(case, np.maximum(layer_ms, 0.01 * layer_ms.mean())[:, None], fitted)


def line(case: Case, fitted: Sequence[int]) -> Prediction:
    return regress(case, case.inside, fitted)


def regress(case: Case, inside: np.ndarray, fitted: Sequence[int]) -> Prediction:
    """Logarithms of networks' times, about the mean of what their layers (layers, guesses) would give."""
    networks = case.networks
    known = np.log(networks.counts @ inside)
    mean = known.mean(1)
    table, choices = networks.features
    share = networks.counts * np.exp(np.log(inside).mean(1))
    columns = np.column_stack([known - mean[:, None], share / share.sum(1, keepdims=True) @ table])
    columns = np.column_stack([np.ones(len(mean)), columns - columns[fitted].mean(0)])
    spread = np.r_[5.0, np.full(known.shape[1], 0.4), np.where(choices, 0.3, 0.1)]
    rows = columns * spread
    inverse = np.linalg.inv(rows[fitted] @ rows[fitted].T + NOISE**2 * np.eye(len(fitted)))
    weights = inverse @ (np.log(case.ms[fitted]) - mean[fitted])
    predicted = np.exp(mean + rows @ rows[fitted].T @ weights)
    return predicted, float(np.sqrt(np.mean((weights / inverse.diagonal()) ** 2)))


def chosen(case: Case, fitted: Sequence[int]) -> Prediction:
    return min(features(case, fitted), line(case, fitted), key=lambda found: found[1])


Method = Callable[[Case, Sequence[int]], Prediction]
ALONE: tuple[Method, ...] = (law, features, handful, layers)
WITH: tuple[Method, ...] = (nearest, mixture, line, chosen, handful_about, layers_about)
REGIMES = ("out, unlike", "out, like", "in, unlike", "in, like")


def library(device: str) -> str:
    return device.split(",")[0].split("_")[0]


def cases_of(
    spaces: Mapping[str, Timed], name: str, device: str, known: Callable[..., Known]
) -> dict[str, Case]:
    """The case of each regime that there is."""
    space = spaces[name]
    ms = geometric(space.way_ms[device])
    runs = np.isfinite(ms)
    networks = Networks.of([way for way, ran in zip(space.ways, runs, strict=True) if ran])
    layer_ms = {
        layer: ms for layer, ms in zip(space.pieces, space.piece_ms[device], strict=True) if np.isfinite(ms)
    }
    found, seen = {}, set()
    for regime in REGIMES:
        kept = tuple(other for other in spaces if other != name or regime.startswith("in,"))
        devices = tuple(
            other
            for other in dict.fromkeys(each for key in kept for each in spaces[key].way_ms)
            if other != device
            and (regime.endswith(" like") or library(other) != library(device))
            and (regime.startswith("out,") or other in space.way_ms)
        )
        if (kept, devices) in seen:
            continue  # no device like it
        seen.add((kept, devices))
        inside = np.column_stack([known(kept, other).inside(networks) for other in devices])
        found[regime] = Case(networks, ms[runs], inside, layer_ms)
    return found


def agreements(case: Case, method: Method) -> dict[int, Agreement]:
    """Means over draws of the networks that are fitted to."""
    found: dict[int, list[Agreement]] = {count: [] for count in COUNTS}
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(case.ms))
        test, rest = order[:HELD_OUT], order[HELD_OUT:]
        for count in COUNTS:
            predicted, _ = method(case, rest[:count])
            found[count].append(Agreement.of(predicted[test], case.ms[test]))
    return {count: mean(each) for count, each in found.items()}


def mean(found: Sequence[Agreement]) -> Agreement:
    rows = [each.to_dict() for each in found]
    return Agreement(**{key: float(np.mean([row[key] for row in rows])) for key in rows[0]})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("times", type=Path)
    parser.add_argument("--each", action="store_true", help="also a table of each device in each space")
    args = parser.parse_args()
    spaces = load_times(args.times)
    kept: dict[tuple[tuple[str, ...], str], Known] = {}

    def known(names: tuple[str, ...], device: str) -> Known:
        if (names, device) not in kept:
            kept[names, device] = Known([spaces[name] for name in names], device)
        return kept[names, device]

    every: list[tuple[bool, dict[str, dict[int, Agreement]]]] = []
    again: list[Agreement] = []
    for name, space in spaces.items():
        for device, turns in space.way_ms.items():
            again.append(Agreement.of(*turns[:, np.isfinite(turns).all(0)]))
            rows: dict[str, dict[int, Agreement]] = {}
            cases = cases_of(spaces, name, device, known)
            for regime, case in cases.items():
                for method in WITH if rows else (*ALONE, *WITH):
                    title = method.__name__ if method in ALONE else f"{method.__name__}: {regime}"
                    rows[title] = agreements(case, method)
            every.append(("in, like" in cases, rows))
            if args.each:
                print(f"\n{name}, {device}\n")
                show(rows)
    alike = [rows for like, rows in every if like]
    for what, chosen_rows in (
        (f"all {len(every)} devices in a space", [rows for _, rows in every]),
        (f"the {len(alike)} with another device of the same library", alike),
    ):
        titles = [title for title in alike[0] if all(title in rows for rows in chosen_rows)]
        print(f"\n{what}\n")
        show({title: {n: mean([rows[title][n] for rows in chosen_rows]) for n in COUNTS} for title in titles})
    print(f"\nmeasured again: {cell(mean(again))}")


def show(rows: Mapping[str, Mapping[int, Agreement]]) -> None:
    print("| | " + " | ".join(f"{count} networks" for count in COUNTS) + " |")
    print("| --- |" + " --- |" * len(COUNTS))
    for title, row in rows.items():
        print(f"| {title} | " + " | ".join(cell(row[count]) for count in COUNTS) + " |", flush=True)


def cell(found: Agreement) -> str:
    return f"{found.kendall_tau:.3f}, {found.within_10:.0%}, {found.median_error:.1%}"


if __name__ == "__main__":
    main()
