"""What trainings and searches make of networks that see images at a glance first."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from support.interrupts import Interrupt
from support.recipes import short_training

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.load import load_data
from dynnas.language.parser import load_space, parse_space
from dynnas.language.problems import SpaceFileError
from dynnas.latency.anchors import anchor_networks
from dynnas.metrics.accuracy import accuracy
from dynnas.report.plots.diagram import layers_of
from dynnas.report.tables.table import dynamic_layers, is_dynamic
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.space.moves import largest, smallest
from dynnas.study.static_part import static_part
from dynnas.supernet.staged import staged_supernet
from dynnas.training.start import train_supernet
from dynnas.workflows.run import run_study

FILE = """
name: glance
input: {channels: 1, classes: 10, resolutions: [4, 6, 8], choose: [fixed, glance], thresholds: [0.5, 0.9]}
stem: {width: 8}
stages: [{block: mbconv, depth: 2, width: 16, stride: 2, expand: 2}]
data: {source: digits, train_images: 256, search_images: 64}
train: {epochs: 2, batch: 64, lr: 0.2, calibration_images: 64, precision: float32, layout: channels_first}
search: {trials: 5, population: 2, controls: false}
target: {seconds: 0.02, images: 8}
"""
SPACE = parse_space(FILE)
SETTINGS = short_training(10)


def glancing(size, threshold):
    values = {
        "resolution.choose": "glance of 8",
        "resolution.glance": size,
        "resolution.threshold": threshold,
    }
    return SPACE.architecture(values)


def test_the_language_has_the_glance_beside_fixed_resolutions() -> None:
    assert [(gene.name, gene.values, gene.condition) for gene in SPACE.genes[:4]] == [
        ("resolution.choose", ("glance of 8", "fixed"), ()),
        ("resolution.glance", (4, 6), (("resolution.choose", ("glance of 8",)),)),
        ("resolution.threshold", (0.5, 0.9), (("resolution.choose", ("glance of 8",)),)),
        ("resolution", (4, 6, 8), (("resolution.choose", ("fixed",)),)),
    ]
    assert SPACE.size == 2 * 2 + 3
    config = SPACE.network_config(glancing(6, 0.9), 1, 10)
    assert config.glance is not None
    assert (config.glance.given, config.glance.size, config.resolution) == (8, 6, 8)
    assert [(place.name, place.threshold) for place in config.exits] == [("glance", 0.9)]
    assert {slot for slot, _ in config.slots()} <= set(SPACE.covering_configs(1, 10))
    with pytest.raises(
        SpaceFileError, match=r"input\.thresholds: never used; it applies only where choose is gl"
    ):
        parse_space(FILE.replace("choose: [fixed, glance]", "choose: fixed"))


def test_the_static_part_looks_once_and_so_do_anchors() -> None:
    static = static_part(SPACE)
    assert static is not None
    assert static.size == 3
    always = SPACE.restrict({"resolution.choose": ["glance of 8"]})
    for network in islice(anchor_networks(always, 1, 10), 2):
        assert len(network.logits(torch.zeros(2, 1, 8, 8))) == 1


def test_tables_and_pictures_name_the_glance() -> None:
    assert dynamic_layers(smallest(SPACE)) == "glance of 8"
    assert is_dynamic(smallest(SPACE))
    assert not is_dynamic(largest(SPACE))
    layers = {
        layer.name: (layer.text, layer.kind) for layer in layers_of(SPACE.network_config(smallest(SPACE)))
    }
    assert layers["glance"] == ("the whole image", "static")
    assert layers["focus"] == ("a part of 4 of 8, again", "dynamic")


@pytest.mark.slow
def test_looks_are_learned(tmp_path: Path) -> None:
    dataset = load_data(DataSettings(train_images=640, augment="none"))
    supernet = staged_supernet(SPACE, channels=1, classes=10)
    before = supernet.slots["focus"].get_parameter("score/weight").detach().clone()
    train_supernet(supernet, dataset, SETTINGS, tmp_path)
    assert not torch.equal(supernet.slots["focus"].get_parameter("score/weight"), before)
    top1 = {}
    for threshold, size in ((0.5, 6), (0.9, 6)):
        network = calibrated_network(supernet, glancing(size, threshold), dataset, SETTINGS)
        score = accuracy(network, dataset, "search")
        top1[threshold] = score.top1, score.exit_shares[0]
    # More certainty is asked for, so fewer leave at the glance; both looks are right far more than by chance.
    assert top1[0.9][1] < top1[0.5][1]
    assert min(right for right, _ in top1.values()) > 0.7


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    dataset = load_data(DataSettings(train_images=128, augment="none"))
    settings = TrainSettings(epochs=1, batch=32, lr=0.1, precision="float32", layout="channels_last")
    space = parse_space(FILE.replace("[fixed, glance]", "[fixed, per_image, glance]"))
    whole, parts, resumed = (staged_supernet(space, channels=1, classes=10) for _ in range(3))
    train_supernet(whole, dataset, settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_supernet(parts, dataset, settings, tmp_path / "parts", progress=Interrupt(2))
    train_supernet(resumed, dataset, settings, tmp_path / "parts")
    assert resumed.digest() == whole.digest()


@pytest.mark.slow
def test_candidates_are_scored_by_where_their_images_leave(tmp_path: Path) -> None:
    (tmp_path / "glance.yaml").write_text(FILE)
    study = run_study(load_space(tmp_path / "glance.yaml"), folder=tmp_path / "studies" / "glance")
    found = [each for each in study.candidates if "resolution.glance" in each.architecture]
    assert found
    for candidate in found:
        metrics = candidate.metrics
        assert metrics["exit_share.glance"] + metrics["exit_share.head"] == pytest.approx(1)
        assert metrics["expected_macs"] <= metrics["macs"]
