"""The picture of a study: the file, and what matplotlib was told to draw."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from support.figures import legend

from dynnas.report.plots.front import Picture, Point, draw
from dynnas.report.plots.growth import Growth, draw_growth
from dynnas.report.study import title_of
from dynnas.settings.settings import DataSettings, Settings

FRONT = (Point(0.2, 95.0, dynamic=True), Point(0.1, 90.0))


def test_a_picture_of_the_front_alone_is_written(tmp_path: Path) -> None:
    draw(Picture("digits", FRONT), tmp_path / "front.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "front.png").shape
    assert (width, height) == (1275, 825)


def test_everything_has_its_place_in_the_legend(axes: list[Axes]) -> None:
    cloud = (Point(0.15, 80.0), Point(0.3, 90.0))
    draw(Picture("a title", FRONT, cloud, cloud, FRONT[:1], FRONT[1:]), Path("unused.png"))
    assert legend(axes[0]) == [
        "candidates (2)",
        "random sample (2)",
        "uniform width (1)",
        "static only (1)",
        "front (2)",
        "dynamic member (1)",
    ]
    assert (axes[0].get_title(), axes[0].get_xlabel()) == ("a title", "latency [ms]")
    assert axes[0].get_ylabel() == "accuracy on the search images [%]"


def test_the_front_is_a_staircase_in_percent_from_fast_to_slow(axes: list[Axes]) -> None:
    draw(Picture("digits", FRONT), Path("unused.png"))
    (line,) = axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xdata().tolist() == [0.1, 0.2]
    assert line.get_ydata().tolist() == pytest.approx([90.0, 95.0])


@pytest.mark.parametrize(("slowest", "scale"), [(0.5, "linear"), (0.51, "log")])
def test_wide_spans_of_cost_are_logarithmic(slowest: float, scale: str, axes: list[Axes]) -> None:
    draw(Picture("digits", (Point(0.1, 90.0), Point(slowest, 95.0))), Path("unused.png"))
    assert axes[0].get_xscale() == scale


def test_a_few_hopeless_networks_do_not_squeeze_the_front(axes: list[Axes]) -> None:
    cloud = (*(Point(0.1, 91.0) for _ in range(20)), Point(0.1, 10.0))
    draw(Picture("digits", FRONT, cloud), Path("unused.png"))
    bottom, top = axes[0].get_ylim()
    assert 89 < bottom < 90
    assert 95 < top < 96
    assert axes[0].get_legend().get_title().get_text() == "below the picture: 1"


def test_growth_is_a_staircase_to_the_last_trial(axes: list[Axes]) -> None:
    draw_growth(Growth("a title", (1, 4, 9), (0.5, 0.6, 0.9), 20), Path("unused.png"))
    (line,) = axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xdata().tolist() == [1, 4, 9, 20]
    assert line.get_ydata().tolist() == [0.5, 0.6, 0.9, 0.9]


@pytest.mark.parametrize(
    ("source", "name"),
    [("digits", "digits"), ("/home/me/pictures/", "pictures"), ("mine.data:load", "mine.data:load")],
)
def test_a_title_names_the_data_without_their_folder(source: str, name: str) -> None:
    settings = Settings(data=DataSettings(source=source))
    study = SimpleNamespace(name="abc", space=SimpleNamespace(table=None), settings=settings)
    assert title_of(study) == f"abc: {name} on cpu, threads: 1"
