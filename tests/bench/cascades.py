"""Cascades of a study: what they add to its front, whether it holds on test images, and their real times.

    python tests/bench/cascades.py STUDY [--size 2] [--keep 10] [--by latency_ms]

The study is copied first and stays as it is. Prints the hypervolume of the front in score and cost with and
without cascades: as computed, with the measured times of the cascades, and with test scores. Then,
for the three that add most to the front (by what was computed), the latency measured on real images beside
the computed one, and beside that of their networks timed in the same rounds. 0 if the computed one is within
5%.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynnas.cli.progress import show_progress
from dynnas.pareto.contribution import hypervolume, most_useful, reference_of
from dynnas.study.records.cascades import Cascades
from dynnas.study.study import Study, open_study
from dynnas.workflows.cascades.cascade import cascade_study

BEST = 3
WITHIN = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Print the check; 0 if the three best take what was computed."""
    args = _arguments(argv)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, Path(args.study).resolve().name)
        shutil.copytree(open_study(args.study).folder.path, copy)
        study = open_study(copy)
        with show_progress() as progress:
            found = cascade_study(study, size=args.size, keep=args.keep, by=args.by, progress=progress)
        if not found:
            print("no cascade beats the networks of the front")
            return 0
        _print_volumes(study, found)
        return _print_times(study, found)


def _print_volumes(study: Study, found: Cascades) -> None:
    member_cost, cascade_cost = ("macs", "expected_macs") if found.by == "macs" else ("mean_ms", "latency_ms")
    computed, measured = "latency_ms", "mean_ms"
    on_search, on_test = found.score, f"test_{found.score}"
    rows = [("search", on_search, cascade_cost), ("test", on_test, cascade_cost)]
    if cascade_cost == computed:
        rows += [("search, measured", on_search, measured), ("test, measured", on_test, measured)]
    print(f"front: {len(study.front)}, cascades: {len(found)}; hypervolume in {on_search} and {found.by}")
    for name, score, cost in rows:
        members = np.array([(one.metrics[score], one.metrics[member_cost]) for one in study.front])
        cascades = np.array([(one.metrics[score], one.metrics[cost]) for one in found])
        every = np.concatenate([members, cascades])
        reference = reference_of(every)
        alone, both = hypervolume(members, reference), hypervolume(every, reference)
        print(f"  {name:17} alone {alone:.6g}, with cascades {both:.6g} ({100 * (both / alone - 1):+.1f}%)")
    losses = [
        [100 * (one.metrics[on_search] - one.metrics[on_test]) for one in group]
        for group in (study.front, found)
    ]
    front, cascades = (f"{np.mean(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in losses)
    print(f"search less test score, points: networks of the front {front}, cascades {cascades}")


def _print_times(study: Study, found: Cascades) -> int:
    members = np.array([(one.metrics[found.score], one.metrics["mean_ms"]) for one in study.front])
    points = np.array([(one.metrics[found.score], one.metrics["latency_ms"]) for one in found])
    reference = reference_of(np.concatenate([members, points]))
    best = most_useful(members, points, reference, BEST)
    worst = 0.0
    for row, cascade in enumerate(found):
        metrics = cascade.metrics
        computed, mean, joint = (metrics[name] for name in ("latency_ms", "mean_ms", "joint_ms"))
        mark = ""
        if row in best:
            worst, mark = max(worst, abs(computed / mean - 1)), "*"
        print(
            f"{mark:1} cascade:{row + 1}: search {100 * metrics[found.score]:.2f}%, "
            f"test {100 * metrics[f'test_{found.score}']:.2f}%, measured {mean:.4f} ms, "
            f"computed {computed:.4f} ({100 * (computed / mean - 1):+.1f}%), "
            f"by its networks in the same rounds {joint:.4f} ({100 * (joint / mean - 1):+.1f}%)"
        )
    print(f"largest difference of the {len(best)} best: {100 * worst:.1f}% (allowed {100 * WITHIN:.0f}%)")
    return int(worst > WITHIN)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--size", type=int, choices=(2, 3), default=2)
    parser.add_argument("--keep", type=int, default=10)
    parser.add_argument("--by", choices=("latency_ms", "macs"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
