"""The study of dynamic kernels on a network of fixed width: its arithmetic, and its smallest run."""

import json
from pathlib import Path

import pytest
from scipy import stats
from support.scripts import load_script, run_script

STUDY = Path(__file__).parents[2] / "studies" / "dynet-groups"
SMALLEST = ("--data", "digits", "--epochs", "1", "--seeds", "0", "1", "--seconds", "0.02")
NAMES = ("static x0.5", "static x1", "DyNet g=2", "WeightNet M=2 G=2")


@pytest.fixture(scope="module")
def results():
    return load_script(STUDY / "results.py")


def network(results, name, cost, *accuracy):
    return results.Result(name, dict.fromkeys(results.COSTS, cost), accuracy)


def test_static_networks_are_interpolated_in_the_logarithm_of_the_cost(results):
    ladder = [network(results, "x1", 10, 80.0, 81.0), network(results, "x2", 40, 84.0, 83.0)]
    assert results.static_at(ladder, "macs", 20) == (pytest.approx((82.0, 82.0)), False)
    assert results.static_at(ladder, "macs", 41) == ((84.0, 83.0), True)
    assert results.static_at(ladder, "macs", 5) == ((80.0, 81.0), False)


def test_a_width_that_is_slower_than_a_wider_one_is_left_out(results):
    ladder = [network(results, "", cost, scores) for cost, scores in ((1, 70.0), (5, 75.0), (4, 80.0))]
    assert results.static_at(ladder, "latency_ms", 2) == (pytest.approx((75.0,)), False)


def test_gains_have_students_interval(results):
    ladder = [network(results, "x1", 10, 80.0, 81.0, 80.5), network(results, "x2", 20, 82.0, 83.0, 82.5)]
    found = results.compare(network(results, "dynamic", 20, 83.0, 84.0, 83.2), ladder[0], ladder)
    assert found["width"].gain == pytest.approx(83.4 - 80.5)
    assert found["macs"].gain == pytest.approx(83.4 - 82.5)
    low, high = found["macs"].interval
    t = stats.t.ppf(0.975, df=4)
    half = t * ((0.28 + 0.25) / 3) ** 0.5  # variances of three values each
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=1e-3)


def run(step, out):
    return run_script(STUDY / "run.py", step, *SMALLEST, "--out", out, "--variants", *NAMES)


@pytest.mark.slow
def test_the_smallest_run_is_complete_and_repeats_nothing(tmp_path):
    first = run("all", tmp_path)
    assert first.stderr.count("test accuracy") == 8
    document = json.loads((tmp_path / "results.json").read_text())
    assert {net["name"] for net in document["networks"]} == set(NAMES)
    static, dynet, *_ = document["networks"]
    assert dynet["costs"]["params"] > 4 * static["costs"]["params"]
    assert dynet["costs"]["macs"] > static["costs"]["macs"]
    gain = document["against_static_of_equal"]["DyNet g=2"]["width"]["gain"]
    assert gain == pytest.approx((sum(dynet["accuracy"]) - sum(static["accuracy"])) / 2)
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "| DyNet g=2 |" in first.stdout

    again = run("measure", tmp_path)
    assert "test accuracy" not in again.stderr
    networks = json.loads((tmp_path / "results.json").read_text())["networks"]
    assert networks[0]["accuracy"] == static["accuracy"]
