"""Samplers on a trained supernet: what each finds, by the same clock.

    python tests/bench/supernet_search.py STUDY [--runs guided:100 nsga2:300 ...] [--seeds 2] --out FOLDER

STUDY is a finished study, whose supernet, data and target are used. Every run is a search of
its own over the whole space; an architecture that several of them propose is evaluated once, so that it
has one latency. `uniform` is the largest network with all widths at the same quantile. What was evaluated is
kept in FOLDER/evaluations.db: the command can be interrupted and given again, with more runs too.

Printed, and written to FOLDER/results.json, are hypervolumes of accuracy and latency after these numbers of
evaluations, as parts of that of the front of all runs together; the reference is the worst of all runs.
FOLDER/front.png shows the fronts of the first seed, and the path that greedy slimming took.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynnas.candidates.candidate import Extractor
from dynnas.cli.progress import show_progress
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.pareto.front import Front, ScoredArchitecture, reference_point
from dynnas.pareto.hypervolume import hypervolume_curve
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.samplers.slimming import Rule, Slimming
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import assess
from dynnas.search.evaluators.supernet import SupernetEvaluator, open_meter
from dynnas.search.loop import SearchLoop
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import open_trials
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest
from dynnas.space.space import Space
from dynnas.study.study import open_study

RULES: dict[str, Rule] = {"autoslim": "loss", "autoslim-rate": "rate"}
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLOURS = {
    "guided": "#0072B2",
    "nsga2": "#D55E00",
    "autoslim": "#009E73",
    "autoslim-rate": "#CC79A7",
    "uniform": "#9A9A9A",
}


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    space: Space
    evaluator: CachedEvaluator
    goal: Goal
    progress: Progress

    def search(self, method: str, trials: int, seed: int) -> list[ScoredArchitecture]:
        """The candidates of one run, in the order of its trials."""
        population = self.space.settings.search.population
        # Latency is not known in advance, so that no sampler is given more than another.
        sampler = make_sampler(method, self.space, population=population, seed=seed, goal=self.goal)
        study = open_trials(open_storage(None), method, self.space, self.goal.objectives, sampler)
        driver = SearchLoop(study, self.space, self.evaluator, self.goal)
        driver.run(trials, self.progress, f"{method}, seed {seed}")
        found = driver.candidates()
        if method in RULES:
            kept = {each.key for each in Slimming(self.space, self.goal, RULES[method]).path(study)}
            return [each for each in found if each.key in kept]
        return found

    def uniform(self) -> list[ScoredArchitecture]:
        """The largest network with all its widths at the same quantile."""
        found = []
        for architecture in dict.fromkeys(map(self._uniform, QUANTILES)):
            metrics = assess(self.evaluator, architecture, self.goal).metrics
            found.append(ScoredArchitecture(architecture, metrics))
        return found

    def _uniform(self, quantile: float) -> Architecture:
        values = dict(largest(self.space))
        for gene in self.space.genes:
            if gene.name in values and gene.name.endswith((".width", ".expand")):
                values[gene.name] = gene.values[round(quantile * (len(gene.values) - 1))]
        return self.space.architecture(values)


def main() -> int:
    """Run all searches; print and keep what they found."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    study = open_study(args.study)
    dataset = study.dataset
    meter = open_meter(args.out / "anchors.json", study.space, dataset)
    extractor = Extractor(study.supernet, dataset, study.settings.train, meter.target)
    evaluator = SupernetEvaluator(extractor, meter)
    cached = CachedEvaluator(evaluator, Cache(args.out / "evaluations.db"), evaluator.provenance)
    goal = Goal.of(("accuracy", "latency_ms"), {})
    found: dict[str, dict[int, list[ScoredArchitecture]]] = {}
    with show_progress() as progress:
        bench = Bench(study.space, cached, goal, progress)
        for method, trials in args.runs:
            if method == "uniform":
                found[method] = {0: bench.uniform()}
                continue
            seeds = 1 if method in RULES else args.seeds
            found[f"{method}:{trials}"] = {seed: bench.search(method, trials, seed) for seed in range(seeds)}
    shares = _shares(found, goal)
    _print(shares)
    runs = {
        name: {seed: [_row(each) for each in candidates] for seed, candidates in seeds.items()}
        for name, seeds in found.items()
    }
    environment = environment_fingerprint(meter.target)
    document = {"study": study.name, "environment": environment, "shares": shares, "runs": runs}
    (args.out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    _draw(found, goal, args.out / "front.png")
    return 0


def _row(candidate: ScoredArchitecture) -> dict[str, Any]:
    metrics = candidate.metrics
    return {
        "key": candidate.key,
        "trial": candidate.trial,
        **{name: metrics[name] for name in ("accuracy", "latency_ms", "macs", "params")},
    }


def _every(found: dict[str, dict[int, list[ScoredArchitecture]]]) -> list[ScoredArchitecture]:
    return [each for seeds in found.values() for candidates in seeds.values() for each in candidates]


def _shares(
    found: dict[str, dict[int, list[ScoredArchitecture]]], goal: Goal
) -> dict[str, dict[int, dict[int, float]]]:
    """By run and seed: evaluations, and the share of the hypervolume of all runs' front after them."""
    best = Front.of(_every(found), goal.objectives)
    reference = reference_point([best])
    whole = best.hypervolume(reference)
    shares: dict[str, dict[int, dict[int, float]]] = {}
    for name, seeds in found.items():
        trials = int(name.partition(":")[2] or 0)
        marks = [mark for mark in (50, 100, 200, 300) if mark < trials] + [trials]
        for seed, candidates in seeds.items():
            curve = hypervolume_curve(candidates, goal.objectives, reference)
            at = {
                mark: _last(volume for trial, volume in zip(curve.trials, curve.volumes, strict=True)
                            if trial < mark or not trials) / whole
                for mark in marks
            }  # fmt: skip
            shares.setdefault(name, {})[seed] = at
    return shares


def _last(volumes: Iterable[float]) -> float:
    return max(volumes, default=0.0)


def _print(shares: dict[str, dict[int, dict[int, float]]]) -> None:
    for name, seeds in shares.items():
        for seed, at in seeds.items():
            line = ", ".join(
                f"{share:.1%} after {mark}" if mark else f"{share:.1%}" for mark, share in at.items()
            )
            print(f"{name:20} seed {seed}: {line}")


def _draw(found: dict[str, dict[int, list[ScoredArchitecture]]], goal: Goal, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = {"uniform": "uniform slimming", **{rule: f"{rule}, its path" for rule in RULES}}
    for name, seeds in found.items():
        method, _, trials = name.partition(":")
        slimmed = method in RULES or method == "uniform"
        members: Sequence[ScoredArchitecture] = (
            seeds[0] if slimmed else tuple(Front.of(seeds[0], goal.objectives))
        )
        points = sorted((each.metrics["latency_ms"], 100 * each.metrics["accuracy"]) for each in members)
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS.get(method, "black"), marker="s" if slimmed else "o", markersize=4,
            linestyle="--" if slimmed else "-", drawstyle="default" if slimmed else "steps-post",
            label=names.get(method, f"{method}, {trials} evaluations"),
        )  # fmt: skip
    axes.set(xlabel="latency [ms]", ylabel="accuracy on the search images [%]", xscale="log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:.2f}")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a name under studies, or a folder")
    parser.add_argument("--runs", nargs="+", type=_run, default=[("guided", 100), ("nsga2", 300)])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _run(text: str) -> tuple[str, int]:
    method, _, trials = text.partition(":")
    return method, int(trials or 0)


if __name__ == "__main__":
    raise SystemExit(main())
