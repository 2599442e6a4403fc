"""Cascades in tables, sentences, pictures and on the page."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.chromium import DESKTOP, browser

from dynnas.report.conclusions import conclusions
from dynnas.report.markdown import markdown
from dynnas.report.page.charts import front_chart
from dynnas.report.page.page import html_page
from dynnas.report.plots.front import Point, draw
from dynnas.report.study import picture_of
from dynnas.report.summary import summarize
from dynnas.report.tables.cascades import cascades_table, cost_of_cascade, title_of_cascade
from dynnas.study.records.cascades import Cascaded, Cascades
from dynnas.study.study import Study


@pytest.fixture(scope="module")
def cascaded(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy with two cascades, one of them not timed."""
    path = tmp_path_factory.mktemp("cascades") / "small"
    shutil.copytree(study.folder.path, path)
    first, last = study.front[0].key, study.front[len(study.front) - 1].key
    sizes = {"expected_macs": 12345.0, "macs": 20000.0, "params": 3000.0}
    computed = {"accuracy": 0.9, "test_accuracy": 0.8512, "latency_ms": 0.0123, **sizes}
    times = {"mean_ms": 0.0131, "median_ms": 0.01, "p95_ms": 0.02, "worst_ms": 0.03, "joint_ms": 0.0129}
    timed = Cascaded((first, last), ("inherited",) * 2, (0.75,), (0.625, 0.375), (10,), {**computed, **times})
    untimed = Cascaded(
        (first, last, first),
        ("inherited",) * 3,
        (0.5, 0.25),
        (0.5, 0.25, 0.25),
        (10,),
        {**computed, "latency_ms": 0.5},
    )
    made = Cascades(
        members=(timed, untimed),
        front=tuple(member.key for member in study.front),
        reference=(0.1, 1.0),
        hypervolumes={"front": 0.2, "with cascades": 0.225},
    )
    copied = Study(replace(study.folder, path=path))
    copied.folder.cascades.write_text(made.to_json())
    return copied


def test_the_table_has_computed_and_measured_times(cascaded: Study) -> None:
    table = cascades_table(cascaded, cascaded.cascades)
    first, last = (cascaded.front[at].key for at in (0, len(cascaded.front) - 1))
    names = [column.name for column in table.columns]
    timed, untimed = (dict(zip(names, row, strict=True)) for row in table.rows)
    assert timed["pick"] == "cascade:1"
    assert timed["networks, with the share of the images that each answers"] == f"{first} 62.5%, {last} 37.5%"
    assert timed["from confidence"] == "0.750"
    assert (timed["accuracy %"], timed["test %"]) == ("90.00", "85.12")
    assert (timed["computed ms"], timed["mean ms"], timed["p95"]) == ("0.0123", "0.0131", "0.0200")
    assert timed["mean MACs"] == "12.3 k"
    assert (untimed["computed ms"], untimed["mean ms"]) == ("0.5000", "")
    assert "cascades of the front: 2; with them its hypervolume in accuracy and latency grows by 12.5%" in (
        table.title
    )
    assert title_of_cascade(cascaded.cascades[0]) == f"{first} >= 0.75, else {last}"


def test_cascades_of_another_front_say_so(cascaded: Study) -> None:
    other = replace(cascaded.cascades, front=("somebody",), by="macs")
    title = cascades_table(cascaded, other).title
    assert "in accuracy and multiply-adds grows" in title
    assert title.endswith("made of an earlier front; `dynnas cascade` makes them again")


def test_pictures_have_them_where_they_are(cascaded: Study, tmp_path: Path) -> None:
    picture = picture_of(cascaded)
    assert picture.cascades == [Point(0.0131, 90.0, dynamic=True), Point(0.5, 90.0, dynamic=True)]
    draw(picture, tmp_path / "front.png")
    draw(replace(picture, cascades=()), tmp_path / "without.png")
    assert (tmp_path / "front.png").read_bytes() != (tmp_path / "without.png").read_bytes()
    (series,) = (one for one in front_chart(cascaded)["series"] if one["name"] == "cascades")
    assert [(point["x"], point["y"]) for point in series["points"]] == [(0.0131, 90.0), (0.5, 90.0)]
    assert series["points"][0]["tip"][:3] == [
        "cascade:1",
        "accuracy 90.00% (test 85.12%)",
        "latency 0.0131 ms, p95 0.02 ms",
    ]
    cascade = cascaded.cascades[0]
    assert cost_of_cascade(cascade, "macs") == cost_of_cascade(cascade, "expected_macs") == 12345.0
    assert cost_of_cascade(cascade, "energy_mj") is None


def test_reports_tell_of_them(cascaded: Study, study: Study) -> None:
    summary = summarize(cascaded)
    told = "Cascades of the front: 2; with them its hypervolume in accuracy and latency grows by 12.5%."
    assert told in conclusions(cascaded)
    for text in (markdown(summary, "command"), html_page(summary, "command")):
        assert told in text
        assert "cascade:2" in text
    assert not any("ascade" in sentence for sentence in conclusions(study))


def test_the_browser_draws_diamonds(cascaded: Study, tmp_path_factory: pytest.TempPathFactory) -> None:
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(html_page(summarize(cascaded), "command"), encoding="utf-8")
    with browser(tmp_path_factory.mktemp("chromium"), DESKTOP) as driver:
        driver.get(page.as_uri())
        assert driver.get_log("browser") == []
        points = driver.find_elements("css selector", "#front-chart [data-series=cascades] .point")
        assert [point.get_attribute("aria-label").split(", ")[0] for point in points] == [
            "cascade:1",
            "cascade:2",
        ]
        marks = driver.find_elements("css selector", "#front-chart [data-series=cascades] .mark")
        assert all(mark.value_of_css_property("fill") == "rgb(184, 82, 141)" for mark in marks)
