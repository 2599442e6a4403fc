"""What searches make of spaces with gates."""

from pathlib import Path

import pytest

from dynnas.errors import StudyError
from dynnas.language.parser import load_space, parse_space
from dynnas.report.tables.table import dynamic_layers, is_dynamic
from dynnas.space.moves import smallest
from dynnas.study.static_part import static_part
from dynnas.workflows.calibrate import calibrate_space
from dynnas.workflows.run import run_study

FILE = """
name: gated
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 8}
stages: [{block: mbconv, depth: 2, width: 8, expand: 2, gate: [none, skip, width]}]
exits: {positions: stage1.0, count: [0, 1], thresholds: 0.5, width: 8}
data: {source: digits, train_images: 256, search_images: 64}
train: {epochs: 2, batch: 64, lr: 0.2, calibration_images: 64, precision: float32, layout: channels_first}
search: {trials: 5, population: 2, controls: false}
target: {seconds: 0.02, images: 8}
"""
SPACE = parse_space(FILE)


def test_a_predictor_is_refused() -> None:
    with pytest.raises(StudyError, match=r"knows nothing of gates \(stage1.0.gate\)"):
        calibrate_space(SPACE)


def test_the_static_part_has_no_gates() -> None:
    static = static_part(SPACE)
    assert static is not None
    assert static.size == 1
    assert static_part(SPACE.restrict({"gate": ["width", "skip"]})) is None


def test_a_table_names_gates_among_what_is_dynamic() -> None:
    architecture = smallest(SPACE)
    assert dynamic_layers(architecture) == "1 skip, 1 width"
    assert is_dynamic(architecture)


def test_candidates_are_scored_by_what_their_images_run(tmp_path: Path) -> None:
    (tmp_path / "gated.yaml").write_text(FILE)
    study = run_study(load_space(tmp_path / "gated.yaml"), folder=tmp_path / "studies" / "gated")
    gated = [each for each in study.candidates if SPACE.network_config(each.architecture).gated]
    assert gated
    for candidate in gated:
        metrics = candidate.metrics
        assert metrics["expected_macs"] <= metrics["p95_macs"] <= metrics["worst_macs"] <= metrics["macs"]
        assert metrics["policies"] >= 1
        for slot, block in SPACE.network_config(candidate.architecture).gated:
            shares = [v for name, v in metrics.items() if name.startswith(f"gate_share.{slot}.")]
            assert len(shares) == {"skip": 2, "width": 4}[block.gate.name]
            assert sum(shares) == pytest.approx(1) or sum(shares) == 0
