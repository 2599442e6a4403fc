"""Detection of blood cells: a searched front beside a detector with a shelf backbone, by the same recipe.

    python studies/blood-cells/run.py --data BCCD [--seeds 0 1] [--epochs 100] [--trials 200]

Each is a study of its own under `local/`; interrupted, the same command goes on. `results.json` holds AP50 on
the search and the test images and the milliseconds of every network that is on a front.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from networks import ShelfDetector

from dynnas.cli.progress import show_progress
from dynnas.data.load import load_data
from dynnas.language.parser import load_space
from dynnas.language.study_space import StudySpace
from dynnas.space.space import Space
from dynnas.study.study import Study
from dynnas.workflows.run import run_study

HERE = Path(__file__).parent
METRICS = ("ap50", "test_ap50", "ap", "test_ap", "latency_ms", "median_ms", "macs", "params")


def spaces(searched: StudySpace, classes: int) -> dict[str, StudySpace]:
    """Return what is compared: the space, and the fixed detector with its settings for one trial."""
    settings = searched.settings
    alone = replace(settings, search=replace(settings.search, trials=1, controls=False))
    shelf = Space.of(ShelfDetector, classes=[classes], width=[48])
    return {"searched": searched, "shelf": StudySpace.around(shelf, settings=alone)}


def rows(study: Study, name: str, seed: int) -> list[dict[str, object]]:
    """Return the members of a front with what was measured of them."""
    return [
        {"network": name, "seed": seed, "key": member.key}
        | {metric: member.metrics[metric] for metric in METRICS if metric in member.metrics}
        for member in study.front
    ]


def main() -> None:
    """Run what is missing, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results and of local/")
    given = parser.parse_args()
    searched = load_space(HERE / "blood-cells.yaml")
    found: list[dict[str, object]] = []
    with show_progress() as progress:
        data = replace(searched.settings.data, source=given.data)
        dataset = load_data(data, progress)
        for seed in given.seeds:
            settings = replace(
                searched.settings,
                data=data,
                train=replace(searched.settings.train, epochs=given.epochs, seed=seed),
                search=replace(searched.settings.search, trials=given.trials, seed=seed),
            )
            for name, space in spaces(replace(searched, settings=settings), dataset.task.outputs).items():
                folder = given.out / "local" / f"{name}-{seed}"
                study = run_study(space, folder=folder, progress=progress, dataset=dataset)
                found += rows(study, name, seed)
    (given.out / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    for row in sorted(found, key=lambda row: float(str(row.get("latency_ms", 0)))):
        print(row)


if __name__ == "__main__":
    main()
