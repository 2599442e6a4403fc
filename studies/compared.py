"""A searched front beside fixed networks, each trained by the same recipe, for some seeds.

    python studies/compared.py studies/camvid/results.json test_mean_iou

draws a study's results again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynnas.cli.progress import show_progress
from dynnas.data.load import load_data
from dynnas.language.parser import load_space
from dynnas.language.study_space import StudySpace
from dynnas.progress import Progress
from dynnas.space.space import Space
from dynnas.study.study import Study
from dynnas.workflows.run import run_study
from dynnas.workflows.train import recipe_of, train_members


def compare(
    doc: str | None,
    file: Path,
    fixed: Callable[[int], Mapping[str, Space]],
    metrics: Sequence[str],
    epochs: int,
    trials: int,
    also: Callable[[Study, str, str], Mapping[str, float]] | None = None,
) -> None:
    """Run what is missing as the command line says, and write `results.json` and `front.png`.

    The most accurate network of a searched front is also trained alone, as the fixed ones are: from fresh
    weights, by the same recipe.

    Args:
        doc: of the command.
        file: the space that is searched; results lie beside it.
        fixed: returns the networks to compare with, by name, for a number of classes.
        metrics: that the results hold of each network; the first is what they are chosen by.
        epochs: of a training, if the command line does not say. trials: of a search, likewise.
        also: returns more results of the network with a key; the last argument names the data.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--out", type=Path, default=file.parent, help="folder of the results and of local/")
    given = parser.parse_args()
    searched = load_space(file)
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
            alone = replace(settings, search=replace(settings.search, trials=1, controls=False))
            spaces = {"searched": replace(searched, settings=settings)} | {
                name: StudySpace.around(space, settings=alone)
                for name, space in fixed(dataset.task.outputs).items()
            }
            for name, space in spaces.items():
                folder = given.out / "local" / f"{name}-{seed}"
                study = run_study(space, folder=folder, progress=progress, dataset=dataset)
                for member in study.front:
                    more = also(study, member.key, given.data) if also else {}
                    found.append(_row(name, seed, member.key, {**member.metrics, **more}, (*metrics, *more)))
                if name == "searched":
                    found.append(_alone(study, metrics, progress))
    (given.out / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    draw(found, f"test_{metrics[0]}", given.out / "front.png")
    for row in sorted(found, key=lambda row: float(str(row.get("latency_ms", 0)))):
        print(row)


def _alone(study: Study, metrics: Sequence[str], progress: Progress) -> dict[str, object]:
    """Train the most accurate network of a front alone, and return its scores; its times are the front's."""
    train, best = study.settings.train, study.front.pick("most-accurate")
    (trained,) = train_members(study, [best], recipe_of(train, "scratch", teacher="none"), progress)
    return _row("alone", train.seed, best.key, {**best.metrics, **trained.scores}, metrics)


def _row(
    name: str, seed: int, key: str, values: Mapping[str, float], metrics: Sequence[str]
) -> dict[str, object]:
    """Return a row of the results, with those of the metrics that are known."""
    known = {metric: values[metric] for metric in metrics if metric in values}
    return {"network": name, "seed": seed, "key": key, **known}


def draw(
    rows: Sequence[Mapping[str, Any]], score: str, path: Path, lines: Sequence[str] = ("searched",)
) -> None:
    """Write a picture of a score against milliseconds: a colour for each network, a marker for each seed.

    Networks of the names in `lines` are connected.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for colour, name in enumerate(dict.fromkeys(row["network"] for row in rows)):
        for seed in sorted({row["seed"] for row in rows}):
            points = sorted(
                (row["latency_ms"], row[score])
                for row in rows
                if (row["network"], row["seed"]) == (name, seed)
            )
            axes.plot(
                *zip(*points, strict=True),
                "os^vD"[seed % 5],
                linestyle="-" if name in lines else "",
                color=matplotlib.colormaps["tab10"].colors[colour],
                label=f"{name}, seed {seed}",
            )
    axes.set(xscale="log", xlabel="latency [ms]", ylabel=score.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    FigureCanvasAgg(figure).print_png(path)


if __name__ == "__main__":
    results = Path(sys.argv[1])
    draw(json.loads(results.read_text()), sys.argv[2], results.with_name("front.png"))
