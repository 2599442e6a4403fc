"""The report in a real browser: it works offline, says what its points are, and fits a phone."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chromium import DESKTOP, PHONE, browser, overflow, requested

from dynnas.report.tables.table import count
from dynnas.report.verdict import verdict
from dynnas.study.study import Study

POINT = "#front-chart [data-series=front] .point"


@pytest.fixture(scope="module", params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, report: Path, tmp_path_factory: Any) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("chromium"), request.param) as driver:
        driver.get(report.as_uri())
        yield driver


def texts(page: Any, selector: str) -> list[str]:
    """What elements say, seen or not."""
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
    return page.execute_script(script, selector)


def test_the_page_asks_no_network_and_complains_of_nothing(page: Any, report: Path) -> None:
    assert page.get_log("browser") == []
    assert {address for address in requested(page) if not address.startswith("data:")} == {report.as_uri()}
    assert texts(page, "script[src], link[rel=stylesheet]") == []


def test_the_page_is_no_wider_than_its_window(page: Any) -> None:
    assert overflow(page) <= 0


def test_hovering_a_point_of_the_front_says_what_it_is(page: Any, study: Study) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    members = {member.key: member for member in study.front}
    points = page.find_elements("css selector", POINT)
    places = page.execute_script(
        "return arguments[0].map((one) => one.querySelector('.mark').getBoundingClientRect())"
        ".map((box) => [box.x + box.width / 2, box.y + box.height / 2])",
        points,
    )
    keys = [point.get_attribute("aria-label").split(", ")[0] for point in points]
    assert sorted(keys) == sorted(members)
    for point, (x, y) in zip(points, places, strict=True):
        page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", point)
        ActionChains(page).move_to_element(point).perform()
        (tip,) = page.find_elements("css selector", "#front-chart .tip")
        assert tip.is_displayed()
        lines = tip.text.splitlines()
        # The pointer goes by whole pixels, where two networks may share one.
        around = [key for key, (u, v) in zip(keys, places, strict=True) if math.hypot(u - x, v - y) < 3]
        assert lines[0] in around
        member = members[lines[0]]
        assert lines[1].startswith(f"accuracy {100 * member.metrics['accuracy']:.2f} ± ")
        assert f"latency {member.metrics['mean_ms']:.3g} ms" in lines[2]


def test_points_answer_to_the_keyboard(page: Any, study: Study) -> None:
    point = page.find_elements("css selector", POINT)[0]
    page.execute_script("arguments[0].focus()", point)
    first = min(study.front, key=lambda member: member.metrics["latency_ms"])
    assert page.find_element("css selector", "#front-chart .tip").text.startswith(first.key)
    assert point.get_attribute("tabindex") == "0"


def test_series_can_be_switched_off_and_on(page: Any, study: Study) -> None:
    def shown() -> int:
        return len(page.find_elements("css selector", "#front-chart [data-series=random] .point"))

    buttons = page.find_elements("css selector", "#front-chart .legend button")
    names = [button.text.split(" (")[0] for button in buttons]
    assert names == ["front", "static only", "uniform width", "random", "searched"]
    button = buttons[names.index("random")]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
    before = shown()
    button.click()
    assert (shown(), button.get_attribute("aria-pressed")) == (0, "false")
    button.click()
    assert shown() == before == len(study.controls.random)


def test_the_verdict_is_on_top(page: Any, study: Study) -> None:
    said = " ".join(texts(page, "header .verdict"))
    assert said == verdict(study)


def test_a_table_is_sorted_by_any_column_also_with_the_keyboard(page: Any, study: Study) -> None:
    from selenium.webdriver.common.keys import Keys

    def column(at: int) -> list[str]:
        return texts(page, f"#front table:first-of-type tbody td:nth-child({at})")[: len(study.front)]

    heads = page.find_elements("css selector", "#front table:first-of-type th button")
    at = [head.text for head in heads].index("params")
    head = heads[at]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", head)
    head.click()
    ordered = sorted(study.front, key=lambda member: member.metrics["params"])
    assert column(at + 1) == [count(member.metrics["params"]) for member in ordered]
    head.send_keys(Keys.ENTER)
    assert column(at + 1) == [count(member.metrics["params"]) for member in reversed(ordered)]
    assert page.execute_script("return arguments[0].parentElement.ariaSort", head) == "descending"


def test_axes_have_units(page: Any) -> None:
    across, upwards = texts(page, "#front-chart .axis")
    assert across == "latency by which candidates are ranked [ms]"
    assert upwards == "accuracy on the search images [%]"


def test_no_text_of_a_chart_is_cut_off(page: Any) -> None:
    outside = """
        return [...document.querySelectorAll("#front-chart svg text")].filter(text => {
            const own = text.getBoundingClientRect(), around = text.ownerSVGElement.getBoundingClientRect();
            return own.left < around.left - 1 || own.right > around.right + 1
                || own.top < around.top - 1 || own.bottom > around.bottom + 1;
        }).map(text => text.textContent)"""
    assert page.execute_script(outside) == []


def test_every_network_is_drawn_with_its_layers(page: Any, study: Study) -> None:
    for member in study.front:
        drawn = texts(page, f"#net-{member.key} svg text")
        assert drawn[0] == "stem"
        assert drawn.count("exit") == bool(member.metrics.get("exit_share.head"))


def test_what_was_found_is_on_the_page(page: Any, command: str) -> None:
    assert [title for title in texts(page, "h2") if title != "Who leaves early, who late"] == [
        "The front",
        "The networks",
        "Latency",
        "How the search went",
        "Which choices matter",
        "How far to trust it",
        "How it was made",
    ]
    assert texts(page, "pre code") == [command]
