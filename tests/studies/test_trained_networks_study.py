"""The study of trained networks: its images, its clock, its table, and its smallest run."""

import json
from pathlib import Path

import pytest
import torch
from support.scripts import load_script, run_script

STUDY = Path(__file__).parents[2] / "studies" / "trained-network"


@pytest.fixture(scope="module")
def networks():
    return load_script(STUDY / "networks.py")


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_networks_are_drawn_from_their_seed(networks, name):
    one, same, other = (networks.drawn(name, 3, 10, 8, seed).eval() for seed in (0, 0, 1))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert one(images).shape == (2, 10)
    assert torch.equal(one(images), same(images))
    assert not torch.equal(one(images), other(images))


def test_the_table_compares_with_the_trained_network_of_the_same_seed():
    table = load_script(STUDY / "results.py", "results_of_trained_networks").table
    rows = [
        {"network": "a", "seed": seed, "method": method, "which": "", "test_accuracy": accuracy, "ms": ms}
        | {"macs": 2e6, "params": 5, "seconds": 10.0, "search_seconds": 0.0}
        for seed, method, accuracy, ms in (
            (0, "trained", 0.8, 1.0),
            (1, "trained", 0.7, 2.0),
            (0, "elastic", 0.81, 0.5),
            (1, "elastic", 0.69, 0.8),
        )
    ]
    lines = table(rows).splitlines()
    assert lines[2].split("|")[4:8] == [" 80.0, 70.0 ", " +0.0, +0.0 ", " 1.500 ", " 100% "]
    assert lines[3].split("|")[4:8] == [" 81.0, 69.0 ", " +1.0, -1.0 ", " 0.650 ", " 45% "]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_smallest_run_is_complete_and_repeats_nothing(tmp_path):
    size = ("--epochs", "1", "--tuning", "1", "--trials", "3", "--train-images", "128", "--seconds", "0.02")
    words = (
        "--data",
        "digits",
        "--networks",
        "resnet",
        "--methods",
        "tuned",
        "matching",
        "--seeds",
        "0",
        *size,
    )
    words = (*words, "--out", tmp_path)
    first = run_script(STUDY / "run.py", *words)
    document = json.loads((tmp_path / "results.json").read_text())
    methods = [row["method"] for row in document["rows"]]
    assert methods == ["trained", "elastic", "elastic", "tuned", "matching", "matching", "matching"]
    assert all(row["ms"] > 0 and 0 <= row["test_accuracy"] <= 1 for row in document["rows"])
    assert "| resnet | elastic |" in first.stdout
    (tmp_path / "local" / "resnet-0" / "rows.json").unlink()
    again = run_script(STUDY / "run.py", *words)
    assert "trained before" in again.stderr
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    told = [(row["method"], row["which"], row["accuracy"], row["test_accuracy"], row["macs"]) for row in rows]
    assert told == [
        (row["method"], row["which"], row["accuracy"], row["test_accuracy"], row["macs"])
        for row in document["rows"]
    ]
