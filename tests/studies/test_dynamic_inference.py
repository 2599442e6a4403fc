"""The study of networks that decide per image: its arithmetic, its controls, and its smallest run."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynnas.data.load import load_data
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.gates.controls import hold_gates
from dynnas.settings.settings import DataSettings
from dynnas.training.algorithm import ALGORITHMS
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.train_network import fresh_network

STUDY = Path(__file__).parents[2] / "studies" / "dynamic-inference"
GATES = (
    "skip", "skip-policy", "skip-recurrent", "halt", "width", "channels", "channels-policy", "moe",
    "positions", "routes", "tree", "resolution",
)  # fmt: skip


@pytest.fixture(scope="module")
def study():
    """Its modules, by name, which import each other by names that others may have, too."""
    names, found = ("networks", "controls", "results"), {}
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name in names:
        spec = importlib.util.spec_from_file_location(name, STUDY / f"{name}.py")
        found[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    for name in names:
        del sys.modules[name]
    sys.modules.update(others)
    return found


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=256, augment="none"))


def point(study, name, cost, *accuracy, **facts):
    return study["results"].Point(name, accuracy, (cost,), (1,), ms=(cost,), **facts)


@pytest.fixture
def statics(study):
    """By width 80, 82, 84 and 86% at 10, 20, 40, 80; by depth 70, 85 and 86% at 10, 40, 80; by size less."""
    costs = {"static x0.5": 10, "static x0.75": 20, "static x0.875": 40, "static": 80}
    costs |= {
        "static, depth 1": 10,
        "static, depth 2": 40,
        "static, images x0.5": 10,
        "static, images x0.7": 40,
    }
    scores = dict(zip(costs, (80.0, 82.0, 84.0, 86.0, 70.0, 85.0, 50.0, 60.0), strict=True))
    return {name: point(study, name, cost, scores[name], scores[name] + 1) for name, cost in costs.items()}


def test_a_network_stands_beside_the_better_ladder(study, statics):
    found = study["results"].compare(point(study, "skip 0.5", 20, 83.0, 83.0), statics)
    assert {cost: each.ladder for cost, each in found.items()} == {"ms": "width", "macs": "width"}
    assert found["macs"].static == pytest.approx((82.0, 83.0))
    assert found["macs"].gain == pytest.approx(83 - 82.5)
    at_40 = study["results"].compare(point(study, "skip 0.5", 40, 83.0, 83.0), statics)["ms"]
    assert (at_40.ladder, at_40.static, at_40.beyond) == ("depth", pytest.approx((85.0, 86.0)), 0)


@pytest.mark.parametrize(("cost", "beyond"), [(5, -1), (10, 0), (80, 0), (90, 1)])
def test_the_end_of_a_ladder_is_told(study, statics, cost, beyond):
    found = study["results"].compare(point(study, "skip 0.5", cost, 83.0), statics)
    assert found["macs"].beyond == beyond


def test_what_was_not_timed_is_not_compared_in_time(study, statics):
    untimed = study["results"].Point("skip 0.5", (83.0,), (20,), (1,))
    assert set(study["results"].compare(untimed, statics)) == {"macs"}


def test_a_constant_costs_what_the_gates_cost_and_is_likely(study):
    Use = study["controls"].Use

    def skipped(share, macs=100):
        shares = torch.tensor([1 - share, share], dtype=torch.float64)
        return Use("skip", shares, shares, (0, macs))

    uses = {"a": skipped(0.9), "b": skipped(0.4), "c": skipped(0.7)}  # 200 in the mean
    assert study["controls"].constant_alternatives(uses) == {"a": 1, "b": 0, "c": 1}
    uses = {"a": skipped(0.9, 10), "b": skipped(0.4, 1000), "c": skipped(0.7, 10)}  # 416, nearest is 20
    assert study["controls"].constant_alternatives(uses) == {"a": 1, "b": 0, "c": 1}


def test_constant_tiles_are_the_most_frequent_ones(study):
    run = torch.tensor([0.1, 0.8, 0.3, 0.9], dtype=torch.float64)
    use = study["controls"].Use("positions", run, torch.ones(5) / 5, (0, 1, 2, 3, 4))
    assert use.constant(2)[:, 1].tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(use.drawn()[:, 1], run)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("family", GATES)
def test_held_gates_use_what_learned_ones_use(study, dataset, family, random):
    """Gates that are new decide by random weights: as good as learned ones to be copied in the mean."""
    networks, controls = study["networks"], study["controls"]
    network = fresh_network(networks.family_config(family, 0.5, dataset), seed=1)
    images = dataset.normalise(dataset.train.images)
    calibrate(network, images)
    uses = controls.gate_uses(network, dataset)
    hold_gates(network, controls.held_shares(uses, random), random)
    score = accuracy(calibrate(network, images), dataset).gates
    wanted = {slot: float(use.alternatives @ torch.tensor(use.macs).double()) for slot, use in uses.items()}
    learned, full = sum(wanted.values()), sum(max(use.macs) for use in uses.values())
    held = sum(
        share * cost
        for slot, use in uses.items()
        for share, cost in zip(score.shares[slot].values(), use.macs, strict=True)
    )
    step = max(max(use.macs) for use in uses.values()) / 2  # a constant comes no nearer than half a block
    assert abs(held - learned) < (0.05 * full if random else step)
    if not random:
        assert score.policies == 1
    elif family in ("channels", "channels-policy", "moe"):
        assert score.policies > 100


def test_what_inherits_is_the_base_where_its_gates_are_open(study, dataset):
    networks = study["networks"]
    base = fresh_network(networks.config_of(networks.static_space(networks.STATIC, dataset), dataset), 0)
    network = fresh_network(networks.family_config("skip", 0.5, dataset), 1)
    networks.inherit(network, base)
    hold_gates(network, {slot: (0.0, 1.0) for slot, _ in network.config.gated}, random=False)
    x = dataset.normalise(dataset.search.images[:16])
    torch.testing.assert_close(network.eval().logits(x), base.eval().logits(x))


def test_both_looks_of_a_glance_begin_as_the_base(study, dataset):
    networks = study["networks"]
    base = fresh_network(networks.config_of(networks.static_space(networks.STATIC, dataset), dataset), 0)
    network = networks.inherit(fresh_network(networks.family_config("glance", 0.5, dataset), 1), base)
    found = network.state_dict()
    features = {name: value for name, value in base.state_dict().items() if "slots.head." not in name}
    assert len(features) > 50
    for name, value in features.items():
        for look in (name, name.replace("slots.", "slots.focus__", 1)):
            torch.testing.assert_close(found[look], value)


def test_every_family_has_a_network_and_a_training(study, dataset):
    networks = study["networks"]
    whole = networks.config_of(networks.static_space(networks.STATIC, dataset), dataset)
    for name, family in networks.ALL.items():
        config = networks.family_config(name, 0.5, dataset)
        assert config.branches
        assert config.without_gates().blocks == whole.blocks
        assert all(ALGORITHMS[name](**given) for name, given in family.training.items())


SMALLEST = (
    "--data", "digits", "--epochs", "1", "--tuning-epochs", "1", "--train-images", "128", "--images", "4",
    "--seconds", "0.02", "--budgets", "0.5", "--tuned", "0.5", "--families", "skip", "moe", "glance",
    "exits",
)  # fmt: skip


def run(step, out):
    command = [sys.executable, STUDY / "run.py", step, *SMALLEST, "--out", out]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_the_smallest_run_is_complete_and_repeats_nothing(tmp_path):
    first = run("all", tmp_path)
    # Of each seed: eight static networks, two of gates with four controls each, two whose images leave.
    assert first.stderr.count("test accuracy") == 2 * (8 + 2 * 5 + 2)
    document = json.loads((tmp_path / "results.json").read_text())
    assert [each["name"] for each in document["learned"]] == [
        "skip 0.5",
        "moe 0.5",
        "glance 0.5",
        "exits 0.5",
    ]
    assert len(document["controls"]) == 2 * 4 + 2
    moe = document["learned"][1]
    full = document["static"][0]["macs"][0]
    assert all(0.4 < macs / full < 0.6 for macs in moe["macs"])
    assert all(len(each["ms"]) == 2 for each in document["learned"])
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "| skip 0.5 |" in first.stdout
    again = run("report", tmp_path)
    assert "test accuracy" not in again.stderr
    assert again.stdout == first.stdout
