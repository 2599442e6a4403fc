"""What it would save to score candidates on a part of the search images first, by those of a search.

    python tests/bench/partial_scores.py STUDY [--looks 0.125 0.25 0.5] [--draws 200] [--folder studies]

A candidate is dropped where a part of its images says, with three standard errors to spare, that one of those
before it is as fast and more accurate. What a part would have said is drawn from the accuracy on all images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynnas.study.study import open_study

ERRORS = 3.0


def dropped_at(
    right: int, images: int, best: float, looks: Sequence[float], rng: np.random.Generator
) -> float:
    """Return the share of the images after which a candidate with `right` answers is dropped; 1 for none.

    `best` is the accuracy that a network as fast has.
    """
    seen = found = 0
    for look in looks:
        more = round(look * images) - seen
        found += int(rng.hypergeometric(right - found, images - seen - (right - found), more))
        seen += more
        share = found / seen
        deviation = np.sqrt(max(share * (1 - share), 1 / seen) / seen * (1 - look))
        if share + ERRORS * deviation <= best:
            return look
    return 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--folder", type=Path, default=Path("studies"))
    parser.add_argument("--looks", type=float, nargs="+", default=[0.125, 0.25, 0.5])
    parser.add_argument("--draws", type=int, default=200)
    args = parser.parse_args()
    study = open_study(args.study, args.folder)
    images = len(study.dataset.search)
    known = [(each.metrics["accuracy"], each.metrics["latency_ms"]) for each in study.candidates]
    rng = np.random.default_rng(0)
    saved = lost = 0.0
    for _ in range(args.draws):
        for at, (accuracy, ms) in enumerate(known):
            best = max((other for other, time in known[:at] if time <= ms), default=-1.0)
            look = dropped_at(round(accuracy * images), images, best, args.looks, rng)
            saved += 1 - look
            lost += look < 1 and best < accuracy
    low, middle, high = np.quantile([accuracy for accuracy, _ in known], [0, 0.5, 1])
    print(f"{len(known)} candidates, {low:.1%} to {high:.1%} accurate (median {middle:.1%}), {images} images")
    print(f"looks at {args.looks}: {saved / len(known) / args.draws:.2%} of the scoring saved,")
    print(f"{lost / args.draws:.3f} members of a front lost in a search")


if __name__ == "__main__":
    main()
