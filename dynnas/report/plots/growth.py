"""The picture of a search's progress: the front's hypervolume over the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Growth:
    """The numbers that `draw_growth` shows.

    Attributes:
        title: says the reference, too.
        trials: after which the front was larger.
        volumes: from these trials on.
        last: the last trial.
    """

    title: str
    trials: Sequence[int]
    volumes: Sequence[float]
    last: int


def draw_growth(growth: Growth, path: Path) -> None:
    """Write a staircase as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    volumes = [*growth.volumes, *growth.volumes[-1:]]
    axes.step([*growth.trials, growth.last][: len(volumes)], volumes, where="post", color="#0072B2")
    axes.set_title(growth.title, fontsize=9)
    axes.set(xlabel="trial", ylabel="hypervolume of the front")
    axes.grid(visible=True, alpha=0.25)
    figure.savefig(path)
