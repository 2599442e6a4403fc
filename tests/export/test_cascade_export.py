"""Cascades as bundles: they agree with torch, say who answers, and the script beside them runs them."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import config, finished, noise

from dynnas.errors import ExportError
from dynnas.export.bundle import export_model, verify_bundle
from dynnas.export.formats import FORMATS
from dynnas.nn.exits.exits import select_confident
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.preprocessing import prepare_images


@pytest.fixture(scope="module")
def dataset():
    return noise()


@pytest.fixture(scope="module")
def cascade(dataset):
    """Two networks of their own sizes, the first with an exit; half of the images go on."""
    first = finished(replace(config("dwsep", exits=1), resolution=8))
    second = finished(config("mbconv", "condconv"), seed=1)
    with torch.no_grad():
        sure = first(prepare_images(first, dataset, dataset.search.images)).softmax(1).amax(1)
    return chain([first, second], (sure.median().item() + 1e-3,), ("fast", "slow"), dataset.size)


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(name, marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])
        if name in ("executorch", "pt2")
        else name
        for name in FORMATS
        if FORMATS[name].cascades
    ],
)
def test_every_artifact_agrees_with_torch(format, cascade, dataset, tmp_path):
    modules = {"openvino": "openvino", "executorch": "executorch.exir", "coreml": "coremltools"}
    modules["litert"] = "ai_edge_litert"
    if module := modules.get(format):
        pytest.importorskip(module, reason=f"{format} is not installed")
    manifest = export_model(cascade, dataset, tmp_path / "model", format, images=40)
    assert manifest == verify_bundle(tmp_path / "model")
    for artifact in manifest["artifacts"]:
        assert artifact["largest_difference"] < 1e-3
        assert artifact["agreement"] == artifact["exit_agreement"] == 1
        assert 30 < artifact["images"] <= 40


def test_the_manifest_and_the_card_say_who_answers(cascade, dataset, tmp_path):
    facts = {"networks, until one is confident": "fast (50% of the search images), else slow"}
    manifest = export_model(cascade, dataset, tmp_path / "model", images=40, facts=facts)
    (threshold,) = cascade.thresholds
    assert manifest["exits"] == [
        {"name": "network1", "after": "fast", "criterion": "confidence", "threshold": threshold}
    ]
    assert manifest["ways"] == ["network1", "network2"]
    assert manifest["size"] == list(dataset.size)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "fast (50% of the search images), else slow" in card
    assert f"network1 (confidence {threshold})" in card


@pytest.mark.parametrize("format", ["checkpoint", "safetensors"])
def test_a_format_of_one_network_says_so(format, cascade, dataset, tmp_path):
    ships = "a cascade ships as coreml, executorch, litert, onnx, openvino, pt2"
    with pytest.raises(ExportError, match=f"the format {format} holds one network; {ships}"):
        export_model(cascade, dataset, tmp_path / "model", format)
    assert not (tmp_path / "model").exists()


def test_the_script_beside_it_says_what_the_cascade_says(cascade, dataset, tmp_path):
    export_model(cascade, dataset, tmp_path / "model", images=40)
    images = dataset.test.images[:8]
    np.save(tmp_path / "images.npy", images.numpy())
    ran = subprocess.run(
        [sys.executable, tmp_path / "model" / "run.py", tmp_path / "images.npy"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with torch.no_grad():
        every = cascade.logits(prepare_images(cascade, dataset, images))
        logits, stages = select_confident(every, cascade.thresholds)
    names = json.loads((tmp_path / "model" / "manifest.json").read_text())["class_names"]
    for line, said, stage in zip(ran.stdout.splitlines(), logits, stages.tolist(), strict=True):
        _, name, confidence, way = line.split("\t")
        assert name == names[int(said.argmax())]
        assert float(confidence) == pytest.approx(float(said.softmax(0).max()), abs=2e-4)
        assert way == f"network{stage + 1}"


def test_images_undecided_inside_a_network_are_left_out(cascade, dataset, tmp_path):
    inner = cascade.members[0].network
    with torch.no_grad():
        early = inner.logits(cascade.members[0].own(prepare_images(cascade, dataset, dataset.search.images)))[
            0
        ]
    place = replace(inner.config.exits[0], threshold=float(early[0].softmax(0).max()))
    kept = inner.config
    inner.config = replace(kept, exits=(place,))
    try:
        manifest = export_model(cascade, dataset, tmp_path / "model", images=10)
    finally:
        inner.config = kept
    assert {artifact["images"] for artifact in manifest["artifacts"]} <= {8, 9}
