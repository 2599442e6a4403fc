"""What trainings and searches make of resolutions that are chosen for each image."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.contexts import executed
from support.recipes import short_training

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.load import load_data
from dynnas.errors import StudyError
from dynnas.language.parser import load_space, parse_space
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.cost import cost
from dynnas.report.plots.diagram import layers_of
from dynnas.report.tables.space import costs_table, genes_table
from dynnas.report.tables.table import dynamic_layers, is_dynamic
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import DataSettings
from dynnas.space.moves import largest, smallest
from dynnas.study.static_part import static_part
from dynnas.supernet.staged import staged_supernet
from dynnas.training.start import train_supernet
from dynnas.workflows.calibrate import calibrate_space
from dynnas.workflows.run import run_study

FILE = """
name: sized
input: {channels: 1, classes: 10, resolutions: [4, 6, 8], choose: [fixed, per_image], target: [0.4, 0.8]}
stem: {width: 8}
stages: [{block: mbconv, depth: 2, width: 16, stride: 2, expand: 2}]
data: {source: digits, train_images: 256, search_images: 64}
train: {epochs: 2, batch: 64, lr: 0.2, calibration_images: 64, precision: float32, layout: channels_first}
search: {trials: 4, population: 2, controls: false}
target: {seconds: 0.02, images: 8}
"""
SPACE = parse_space(FILE)


def test_a_predictor_is_refused() -> None:
    with pytest.raises(StudyError, match=r"knows nothing of gates \(resolution.choose\)"):
        calibrate_space(SPACE)


def test_the_static_part_has_one_resolution() -> None:
    static = static_part(SPACE)
    assert static is not None
    assert static.size == 3
    assert static_part(SPACE.restrict({"resolution.choose": ["4+6+8"]})) is None


def test_tables_and_pictures_name_the_choice() -> None:
    architecture = smallest(SPACE)
    assert dynamic_layers(architecture) == "resolution of 4+6+8"
    assert is_dynamic(architecture)
    assert not is_dynamic(largest(SPACE))
    first = layers_of(SPACE.network_config(architecture))[0]
    assert (first.name, first.text, first.kind) == ("resolution", "4, 6 or 8 to 0.4", "dynamic")
    assert [row[1] for row in costs_table(SPACE).rows][::2] == ["4, 6 or 8", "8"]
    assert genes_table(SPACE).rows[0][:2] == (
        "input",
        "choose 4+6+8 fixed, target 0.4 0.8, resolution 4 6 8",
    )


@pytest.mark.slow
def test_predictors_learn_to_keep_to_their_targets(tmp_path: Path) -> None:
    dataset = load_data(DataSettings(train_images=640, augment="none"))
    supernet = staged_supernet(SPACE, channels=1, classes=10)
    settings = short_training(8)
    train_supernet(supernet, dataset, settings, tmp_path)
    for target in (0.4, 0.8):
        values = {"resolution.choose": "4+6+8", "resolution.target": target}
        network = calibrated_network(supernet, SPACE.architecture(values), dataset, settings)
        score = accuracy(network, dataset, "search")
        assert score.gates is not None
        full = cost(network.config).gates[0].full
        used = sum(score.gates.image_macs) / len(score.gates.image_macs) / full
        assert abs(used - target) < 0.2, (target, used, score.gates.shares)
        # It is right far more often than by chance at every resolution: each has statistics of its own.
        x = prepare_images(network, dataset, dataset.search.images)
        assert network.chosen is not None
        with torch.no_grad():
            for size in range(3):
                right = network.chosen.branch(x, size).argmax(1) == dataset.search.targets
                assert right.float().mean() > 0.5
            # As it is scored, it runs.
            folded = fold_batchnorm(network)
            folded = executed(folded, "real")
            torch.testing.assert_close(folded(x), network(x), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_candidates_are_scored_by_what_their_images_run(tmp_path: Path) -> None:
    (tmp_path / "sized.yaml").write_text(FILE)
    space = load_space(tmp_path / "sized.yaml")
    study = run_study(space, folder=tmp_path / "studies" / "sized")
    assert len(study.candidates) == 4
    chosen = [each for each in study.candidates if "resolution.target" in each.architecture]
    assert chosen
    for candidate in chosen:
        metrics = candidate.metrics
        assert metrics["expected_macs"] <= metrics["p95_macs"] <= metrics["worst_macs"] <= metrics["macs"]
        assert metrics["policies"] >= 1
        shares = [v for name, v in metrics.items() if name.startswith("gate_share.resolution.")]
        assert len(shares) == 3
        assert sum(shares) == pytest.approx(1)
    # The same command goes on where it stopped.
    more = replace(space, settings=replace(space.settings, search=replace(space.settings.search, trials=5)))
    again = run_study(more, folder=tmp_path / "studies" / "sized")
    assert len(again.candidates) == 5
    assert {each.architecture for each in study.candidates} <= {
        each.architecture for each in again.candidates
    }
