"""`dynnas latency` and `budget` on studies that are as small as they can be: with exits, and without."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SPACE = """
name: {name}
input: {{resolutions: 8}}
stem: {{width: 8}}
stages: [{{block: dwsep, depth: 2, width: [8, 16], stride: 2}}]
head: {{width: 16}}
{exits}
data: {{source: digits, train_images: 256, search_images: 64}}
train: {{epochs: 1, precision: float32, layout: channels_first}}
search: {{trials: 2, controls: false}}
target: {{seconds: 0.02, images: 16}}
"""
EXITS = "exits: {positions: [stage1.0], count: 1, thresholds: 0.12, width: 8}"


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, dynnas: Callable) -> Path:
    """A folder of two studies."""
    folder = tmp_path_factory.mktemp("latency")
    for name, exits in (("leaving", EXITS), ("static", "")):
        (folder / f"{name}.yaml").write_text(SPACE.format(name=name, exits=exits), encoding="utf-8")
        ran = dynnas("search", str(folder / f"{name}.yaml"), "--studies", str(folder), "--quiet")
        assert ran.status == 0, ran.err
    return folder


def key_of(study: Path, dynnas: Callable) -> str:
    return json.loads(dynnas("front", str(study), "--json").out)["members"][0]["key"]


def test_a_network_with_exits_is_shown_by_exit_and_in_batches(studies: Path, dynnas: Callable) -> None:
    key = key_of(studies / "leaving", dynnas)
    words = ("latency", str(studies / "leaving"), "--pick", key, "--images", "32", "--batch", "8")
    ran = dynnas(*words)
    assert (ran.status, ran.err) == (0, "")
    assert f"{key} of leaving on cpu, threads: 1: one image at a time, really branching" in ran.out
    assert "by exit, 64 images counted: expected mean " in ran.out
    assert "batches of 8, 4 of them; compacted: " in ran.out
    for word in ("p50", "p95", "worst", "stage1.0", "head", "masked", "compacted", "█"):
        assert word in ran.out
    plot = studies / f"leaving/latency/{key}.png"
    assert f"plot: {plot}" in ran.out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_all_of_it_as_json(studies: Path, dynnas: Callable) -> None:
    key = key_of(studies / "leaving", dynnas)
    ran = dynnas(
        "latency", str(studies / "leaving"), "--pick", key, "--images", "32", "--batch", "8", "--json"
    )
    document = json.loads(ran.out)
    assert document["key"] == key
    assert Path(document["plot"]).exists()
    assert len(document["image_ms"]) == len(document["image_ways"]) == 32
    assert sum(way["share"] for way in document["ways"]) == pytest.approx(1)
    expected = sum(way["share"] * (way["mean_ms"] or 0) for way in document["ways"])
    assert document["expected_ms"] == pytest.approx(expected)
    assert [(one["execution"], one["batches"]) for one in document["batches"]] == [
        ("masked", 4),
        ("compacted", 4),
    ]
    low, high = document["latency"]["interval_ms"]
    assert low <= document["latency"]["mean_ms"] <= high


def test_a_static_network_is_one_value_and_said_to_be(studies: Path, dynnas: Callable) -> None:
    ran = dynnas("latency", str(studies / "static"), "--pick", "fastest", "--batch", "8")
    assert ran.status == 0, ran.err
    assert ": the same work for every image, so one value" in ran.out
    assert "whole" in ran.out
    assert "by exit" not in ran.out


def test_a_batch_beyond_the_images_is_refused(studies: Path, dynnas: Callable) -> None:
    ran = dynnas("latency", str(studies / "leaving"), "--batch", "65")
    assert (ran.status, ran.out) == (2, "")
    assert "--batch: found 65, but leaving has 64 search images" in ran.err


def test_times_of_another_machine_are_not_mixed_in(studies: Path, dynnas: Callable) -> None:
    anchors = studies / "static/anchors.json"
    before = anchors.read_text()
    anchors.write_text(json.dumps(json.loads(before) | {"environment": "elsewhere"}))
    ran = dynnas("latency", str(studies / "static"))
    anchors.write_text(before)
    assert ran.status == 2
    assert "measured in environment elsewhere" in ran.err


def test_accuracy_for_budgets_of_computation(studies: Path, dynnas: Callable) -> None:
    key = key_of(studies / "leaving", dynnas)
    (studies / f"leaving/latency/{key}.json").unlink(missing_ok=True)
    words = ("budget", str(studies / "leaving"), "--pick", key, "--quota", "0.5", "--quota", "1")
    ran = dynnas(*words)
    assert (ran.status, ran.err) == (0, "")
    assert f"{key} of leaving: anytime prediction, all images leaving at one exit" in ran.out
    assert "budgeted batches, thresholds fitted on the search split" in ran.out
    assert "mean ms" not in ran.out
    assert (studies / f"leaving/budget/{key}.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((studies / f"leaving/budget/{key}.json").read_text())
    assert document["ways"] == ["stage1.0", "head"]
    half, even = document["points"]
    # Of 64 search images floor(64 * 2 / 3) = 42 and 32 leave early, or a few more that are as sure.
    assert [point["search"]["shares"][0] for point in (half, even)] == pytest.approx(
        [42 / 64, 32 / 64], abs=0.1
    )
    low, high = document["exit_macs"]
    for point in (half, even):
        early = point["test"]["shares"][0]
        assert point["test"]["macs"] == pytest.approx(early * low + (1 - early) * high)
        assert point["test"]["ms"] is None

    dynnas("latency", str(studies / "leaving"), "--pick", key, "--images", "32", "--batch", "8")
    timed = json.loads(dynnas(*words, "--json").out)
    assert len(timed["way_ms"]) == 2


def test_budgets_are_refused_with_one_message(studies: Path, dynnas: Callable) -> None:
    ran = dynnas("budget", str(studies / "static"), "--pick", "fastest")
    assert (ran.status, ran.out) == (2, "")
    assert " has no exits, so every image costs the same; pick a network with exits" in ran.err
    ran = dynnas("budget", str(studies / "leaving"), "--quota", "0")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "dynnas: --quota: found 0; allowed: numbers above 0, as 0.5\n"
