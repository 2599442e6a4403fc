"""The study that rethinks pruning: its differences, its table, and its smallest run."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.scripts import load_script, run_script

STUDY = Path(__file__).parents[2] / "studies" / "pruning-rethought"


@pytest.fixture(scope="module")
def results():
    return load_script(STUDY / "results.py")


def test_differences_are_of_pairs_with_the_interval_of_student(results):
    found, other = {0: 81.0, 1: 83.0, 2: 82.0}, {0: 80.0, 1: 81.0, 2: 81.5, 3: 10.0}
    gain, half = results.difference(found, other)
    theirs = stats.ttest_rel([81, 83, 82], [80, 81, 81.5]).confidence_interval(0.95)
    np.testing.assert_allclose([gain - half, gain + half], [theirs.low, theirs.high])
    assert results.difference({0: 2.0}, other) == (-78.0, None)


def test_the_table_puts_ways_beside_fresh_ones_of_their_family(results):
    rows = [
        {"data": "a", "seed": seed, "family": family, "way": way, "test_accuracy": accuracy + seed / 100}
        | {"macs": 2e6, "weights_left": 10, "ms": 0.5, "all_seconds": 3.0}
        for family, way, accuracy in (
            ("dense", "trained", 0.9),
            ("channels", "pruned, magnitude", 0.8),
            ("channels", "fresh", 0.7),
            ("channels", "fresh, as long", 0.85),
            ("weights", "rewound", 0.6),
            ("weights", "fresh", 0.65),
        )
        for seed in (0, 1)
    ]
    lines = [line.split(" | ") for line in results.tables(rows).splitlines()[4:]]
    assert [line[4:6] for line in lines] == [
        ["–", "–"],
        ["**+10.0 ± 0.0**", "**-5.0 ± 0.0**"],
        ["–", "**-15.0 ± 0.0**"],
        ["**+15.0 ± 0.0**", "–"],
        ["**-5.0 ± 0.0**", "–"],
        ["–", "–"],
    ]


@pytest.mark.slow
def test_the_smallest_run_is_complete_and_repeats_nothing(tmp_path):
    size = ("--epochs", "2", "--train-images", "256", "--width", "8", "--seconds", "0.02")
    words = ("--data", "digits", "--seeds", "0", *size, "--out", tmp_path)
    first = run_script(STUDY / "run.py", *words)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    by_way = {(row["family"], row["way"]): row for row in rows}
    small = {row["params"] for row in rows if row["family"] == "channels"}
    assert len(rows) == len(by_way) == 14
    assert len(small) == 1  # pruned, rewound and fresh networks are of one size
    assert small.pop() < by_way["dense", "trained"]["params"] / 3
    left = {row["weights_left"] for row in rows if row["family"] == "weights"}
    assert len(left) == 1
    assert left.pop() == pytest.approx(0.1 * by_way["dense", "trained"]["weights_left"], rel=0.01)
    assert all(row["ms"] > 0 and 0 <= row["test_accuracy"] <= 1 for row in rows)
    assert "| channels | rewound |" in first.stdout
    made = tmp_path / "local" / "digits-0" / "made"
    for way in ("channels rewound", "weights rewound", "channels pruned, taylor"):
        (made / way / "row.json").unlink()
    again = run_script(STUDY / "run.py", *words)
    assert "dense, trained" not in again.stderr
    found = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["test_accuracy"] for row in found] == [row["test_accuracy"] for row in rows]
