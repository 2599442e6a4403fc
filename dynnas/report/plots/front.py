"""The picture of a study: accuracy against cost, with what the front has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """One network: what an image costs, how good it is (in the units of the axes), whether it is dynamic."""

    cost: float
    accuracy: float
    dynamic: bool = False


@dataclass(frozen=True)
class Picture:
    """The points that `draw` shows. Every sequence but `front` may be empty."""

    title: str
    front: Sequence[Point]
    candidates: Sequence[Point] = ()
    random: Sequence[Point] = ()
    static_front: Sequence[Point] = ()
    uniform_front: Sequence[Point] = ()
    cascades: Sequence[Point] = ()
    shelf: Sequence[Point] = ()
    cost_label: str = "latency [ms]"
    accuracy_label: str = "accuracy on the search images [%]"

    @property
    def clouds(self) -> tuple[Point, ...]:
        """Every network that is drawn as a single point."""
        return (*self.candidates, *self.random, *self.cascades, *self.shelf)

    @property
    def fronts(self) -> tuple[Point, ...]:
        """Every network that is drawn as a step of a staircase."""
        return (*self.front, *self.static_front, *self.uniform_front)


# Okabe and Ito's colours, told apart with any colour vision.
_BLUE, _ORANGE, _GREEN, _SKY, _GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#9A9A9A"
_PURPLE, _BLACK = "#CC79A7", "#000000"
COLOURS = (_BLUE, _ORANGE, _GREEN, _SKY, _GREY)

# A cost axis that spans more than this factor is logarithmic.
_LOG_SPAN = 5.0


def draw(picture: Picture, path: Path) -> None:
    """Write `picture` as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _scatter(axes, picture.candidates, "candidates", _GREY, marker=".", s=28, alpha=0.6)
    _scatter(axes, picture.random, "random sample", _SKY, marker="x", s=22, alpha=0.9)
    _staircase(axes, picture.uniform_front, "uniform width", _GREEN, linestyle=":", marker="^")
    _staircase(axes, picture.static_front, "static only", _ORANGE, linestyle="--", marker="s")
    _staircase(axes, picture.front, "front", _BLUE, linestyle="-", marker="o")
    dynamic = [point for point in picture.front if point.dynamic]
    _scatter(axes, dynamic, "dynamic member", _BLUE, marker="*", s=190, edgecolor="white", zorder=4)
    _scatter(
        axes, picture.cascades, "cascade of members", _PURPLE, marker="D", s=44, edgecolor="white", zorder=5
    )
    _scatter(axes, picture.shelf, "from the shelf", _BLACK, marker="P", s=60, edgecolor="white", zorder=5)
    _scale_cost(axes, picture)
    hidden = _cut_off_the_worst(axes, picture)
    axes.set(title=picture.title, xlabel=picture.cost_label, ylabel=picture.accuracy_label)
    axes.grid(visible=True, alpha=0.25, which="both")
    axes.legend(loc="lower right", framealpha=0.9, title=f"below the picture: {hidden}" if hidden else None)
    figure.savefig(path)


def _scatter(axes: Axes, points: Sequence[Point], label: str, colour: str, **style: Any) -> None:
    if points:
        axes.scatter(*_coordinates(points), label=f"{label} ({len(points)})", color=colour, **style)


def _staircase(
    axes: Axes, points: Sequence[Point], label: str, colour: str, linestyle: str, marker: str
) -> None:
    """Return the best accuracy for each cost, as a staircase."""
    if points:
        ordered = sorted(points, key=lambda point: (point.cost, point.accuracy))
        axes.step(
            *_coordinates(ordered),
            where="post",
            label=f"{label} ({len(points)})",
            color=colour,
            linestyle=linestyle,
            marker=marker,
            markersize=5,
            linewidth=1.6,
        )


def _scale_cost(axes: Axes, picture: Picture) -> None:
    """Set a logarithmic axis with plain numbers, where costs span much."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    costs = [point.cost for point in (*picture.clouds, *picture.fronts)]
    if max(costs) > _LOG_SPAN * min(costs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _cut_off_the_worst(axes: Axes, picture: Picture) -> int:
    """Show the range of the fronts and the bulk of the networks; return how many that leaves out."""
    every = sorted(point.accuracy for point in (*picture.clouds, *picture.fronts))
    floor = min(every[len(every) // 10], *(point.accuracy for point in picture.fronts))
    margin = 0.05 * (every[-1] - floor)
    hidden = sum(accuracy < floor - margin for accuracy in every)
    if hidden:
        axes.set_ylim(floor - margin, every[-1] + margin)
    return hidden


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], [point.accuracy for point in points]
