"""The study of MSDNet's protocol: its arithmetic, and its smallest run."""

import json
from pathlib import Path

import pytest
from support.scripts import load_script, run_script

from dynnas.metrics.budgeted import BudgetPoint, Spent

STUDY = Path(__file__).parents[2] / "studies" / "msd-cifar10"
SMALLEST = ("--data", "digits", "--epochs", "1", "--seeds", "0", "1", "--train-images", "256")


@pytest.fixture(scope="module")
def results():
    return load_script(STUDY / "results.py")


def point(macs, accuracy):
    spent = Spent(accuracy, (0.5, 0.5), macs, None)
    return BudgetPoint(1.0, (0.5,), spent, spent)


def test_curves_are_linear_between_their_points_and_end(results):
    curves = ((point(20, 0.6), point(10, 0.5)), (point(10, 0.7), point(30, 0.9)))
    result = results.Result("two", (5, 40), (), ((50.0, 60.0), (70.0, 90.0)), curves)
    assert result.at(15) == pytest.approx((55.0, 75.0))
    assert result.at(25) is None  # the first seed's curve ends before
    assert result.final == (60.0, 90.0)
    static = results.Result("one", (40,), (), ((60.0,),), ((),))
    assert static.at(40) is None
    assert not static.dynamic


def test_means_have_their_spread(results):
    assert results.spread((60.0, 62.0)) == "61.00 ± 1.41"
    assert results.spread((60.0,)) == "60.00"
    assert results.spread(None) == "–"


def run(step, out):
    return run_script(STUDY / "run.py", step, *SMALLEST, "--seconds", "0.02", "--out", out)


@pytest.mark.slow
def test_the_smallest_run_is_complete_and_repeats_nothing(tmp_path):
    first = run("all", tmp_path)
    assert first.stderr.count("test accuracy") == 8
    document = json.loads((tmp_path / "results.json").read_text())
    by_name = {network["name"]: network for network in document["networks"]}
    assert set(by_name) == {"static", "exits", "msd", "msd, coarse first"}
    assert [len(network["exit_ms"]) for network in by_name.values()] == [1, 4, 4, 4]
    assert [len(network["curves"][0]) for network in by_name.values()] == [0, 40, 40, 40]
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "| msd, coarse first |" in first.stdout
    assert "test accuracy" not in run("report", tmp_path).stderr
