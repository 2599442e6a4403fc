"""The study of own networks: its smallest run."""

import json
from pathlib import Path

import pytest
from support.scripts import run_script

STUDY = Path(__file__).parents[2] / "studies" / "own-networks"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_smallest_run_is_complete_and_repeats_nothing(tmp_path):
    size = ("--size", "32", "--epochs", "1", "--trials", "3", "--audited", "3", "--audit-epochs", "1")
    words = ("--data", "scenes", "--networks", "levit", *size, "--train-images", "128", "--seconds", "0.02")
    words = (*words, "--out", tmp_path)
    run_script(STUDY / "run.py", *words)
    (found,) = json.loads((tmp_path / "results.json").read_text())["networks"]
    assert found["members"]
    assert len(found["audit"]["networks"]) == 3
    assert all(each["agreement"] >= 0.99 for each in found["export"]["artifacts"])
    again = run_script(STUDY / "run.py", *words)
    assert "trained before" in again.stderr
    (same,) = json.loads((tmp_path / "results.json").read_text())["networks"]
    assert same == found
