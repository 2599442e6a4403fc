"""The table of a front: what each cell says."""

import pytest

from dynnas.pareto.front import ScoredArchitecture
from dynnas.report.tables.table import count, dynamic_layers, exits, front_table, is_dynamic
from dynnas.space.architecture import Architecture

STATIC = Architecture((("stage1.depth", 1), ("stage1.0.op", "static")))
DYNAMIC = Architecture(
    (
        ("stage1.0.op", "dynet"),
        ("stage1.1.op", "condconv"),
        ("stage2.0.op", "condconv"),
        ("stage2.1.op", "static"),
        ("exits.at", "stage1+stage2"),
        ("exits.stage1.threshold", 0.8),
        ("exits.stage2.threshold", 0.9),
    )
)
METRICS = {
    "accuracy": 0.98765,
    "test_accuracy": 0.9,
    "test_accuracy_low": 0.885,
    "test_accuracy_high": 0.913,
    "test_gain": 0.012,
    "test_gain_low": -0.001,
    "test_gain_high": 0.025,
    "mean_ms": 0.12345,
    "median_ms": 0.1,
    "p95_ms": 2.0,
    "macs": 1_234_567,
    "params": 987,
}


def test_a_row_says_how_good_how_fast_how_big_and_what_is_dynamic() -> None:
    table = front_table([ScoredArchitecture(DYNAMIC, METRICS, trial=7)], "a front")
    (row,) = table.rows
    assert dict(zip((column.name for column in table.columns), row, strict=True)) == {
        "key": DYNAMIC.key,
        "accuracy %": "98.77",
        "test %": "90.00 ± 1.4",
        "gain": "+1.2 ≈",
        "mean ms": "0.123",
        "p95": "2.000",
        "MACs": "1.23 M",
        "params": "987",
        "dynamic layers": "2 condconv, 1 dynet",
        "exits": "stage1 at 0.8, stage2 at 0.9",
        "trial": "7",
    }


def test_columns_have_the_name_of_the_score() -> None:
    metrics = {"mean_iou": 0.5, "test_mean_iou": 0.25, "rmse": 3.14159, "test_rmse": 4.0}
    for score, heading, cells in (
        ("mean_iou", ("mean_iou %", "test %"), ("50.00", "25.00")),
        ("rmse", ("rmse", "test"), ("3.142", "4")),
    ):
        table = front_table([ScoredArchitecture(STATIC, metrics)], "a front", score=score)
        assert tuple(column.name for column in table.columns[1:3]) == heading
        assert table.rows[0][1:3] == cells


def test_a_gain_beyond_its_noise_has_no_mark() -> None:
    (row,) = front_table([ScoredArchitecture(STATIC, METRICS | {"test_gain_low": 0.001})], "a front").rows
    assert row[3] == "+1.2"


def test_what_is_not_known_is_left_empty() -> None:
    (row,) = front_table([ScoredArchitecture(STATIC, {"accuracy": 1.0})], "a front").rows
    assert row == (STATIC.key, "100.00", *[""] * 9)


def test_dynamic_means_kernels_or_exits() -> None:
    only_exits = Architecture((("exits.at", "stage1"), ("exits.stage1.threshold", 0.5)))
    assert [is_dynamic(network) for network in (STATIC, DYNAMIC, only_exits)] == [False, True, True]
    assert (dynamic_layers(STATIC), exits(STATIC)) == ("", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (45_678, "45.7 k"), (1.5e6, "1.5 M"), (2e9, "2 G")],
)
def test_counts_have_three_figures(value: float, text: str) -> None:
    assert count(value) == text


def test_compiled_networks_that_differ_from_torch_say_by_how_much() -> None:
    alike, unlike = (
        {"artifact_agreement": share, "artifact_gap": gap} for share, gap in ((1, 0), (0.989, -0.0031))
    )
    table = front_table([ScoredArchitecture(STATIC, METRICS | alike)], "a front")
    assert "artifact" not in [column.name for column in table.columns]
    assert table.note.endswith("which answer every image as torch does.")
    members = [ScoredArchitecture(STATIC, METRICS | each) for each in (alike, unlike)]
    table = front_table(members, "a front")
    at = [column.name for column in table.columns].index("artifact")
    assert [row[at] for row in table.rows] == ["+0.00, 100.0% alike", "-0.31, 98.9% alike"]
