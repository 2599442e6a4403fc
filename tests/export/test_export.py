"""Bundles: they agree with torch, say how to use them, and appear whole or not at all."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors import safe_open
from support.graphs import session_of
from support.networks import config, finished, noise
from torch import nn
from torch.testing import assert_close

from dynnas.errors import ExportError
from dynnas.export.bundle import export_model, verify_bundle
from dynnas.export.formats import FORMATS
from dynnas.export.formats.checkpoint import load_checkpoint
from dynnas.export.formats.format import get_format
from dynnas.export.timing import time_artifact
from dynnas.runtimes.backends.onnxruntime import PackedOnnxRuntime
from dynnas.runtimes.plain import PlainNetwork
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.space.architecture import Architecture


@pytest.fixture(scope="module")
def dataset():
    return noise()


@pytest.fixture(scope="module")
def network():
    return finished(config("mbconv", "condconv", exits=1, attention="se"))


def spoiled(format, monkeypatch, write):
    """`format` with something else in place of what writes it."""
    monkeypatch.setattr(FORMATS[format], "write", lambda _, network, folder, metadata: write(network, folder))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "format", [format for format in FORMATS if format not in ("coreml", "executorch", "ncnn")]
)
def test_every_artifact_agrees_with_torch(format, network, dataset, tmp_path):
    if format in ("openvino", "litert"):
        module = {"litert": "ai_edge_litert"}.get(format, format)
        pytest.importorskip(module, reason=f"{module} is not installed")
    folder = tmp_path / "deep" / "model"
    manifest = export_model(network, dataset, folder, format, images=40)
    assert manifest == verify_bundle(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert {artifact["file"] for artifact in manifest["artifacts"]} <= set(manifest["files"])
    for artifact in manifest["artifacts"]:
        assert artifact["largest_difference"] < 1e-3
        assert artifact["agreement"] == artifact["exit_agreement"] == 1
        assert 30 < artifact["images"] <= 40
        assert artifact["score"] == artifact["network_score"]
        timing = artifact["timing"]
        assert 0 < timing["median_ms"] <= timing["p95_ms"] <= timing["worst_ms"]


def test_a_static_network_has_one_way_out(dataset, tmp_path):
    manifest = export_model(finished(config()), dataset, tmp_path / "model", "onnx", images=10)
    assert manifest["exits"] == []
    assert list(manifest["outputs"]) == ["logits"]


def test_the_manifest_is_enough_to_run_the_model(network, dataset, tmp_path):
    architecture = Architecture((("stage1.depth", 2), ("head.width", 16)))
    export_model(network, dataset, tmp_path / "model", architecture=architecture)
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    image = dataset.test.images[:1]

    pixels = image.numpy().astype(np.float32) / 255
    mean, std = (np.array(manifest["input"][key], np.float32)[:, None, None] for key in ("mean", "std"))
    size = manifest["size"]
    x = torch.nn.functional.interpolate(
        torch.from_numpy((pixels - mean) / std), size, mode="bilinear", antialias=True
    )
    session = session_of(str(tmp_path / "model" / manifest["artifacts"][0]["file"]))
    logits, exit = session.run(None, {manifest["input"]["name"]: x.numpy()})

    with torch.no_grad():
        expected = network(prepare_images(network, dataset, image))
    assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-4)
    assert 0 <= int(exit[0]) <= len(manifest["exits"])
    assert manifest["opset"] == 18
    assert manifest["class_names"] == list("abcde")
    stored = Architecture.from_json((tmp_path / "model" / "architecture.json").read_text())
    assert stored == architecture


def test_a_checkpoint_is_the_network_itself(network, dataset, tmp_path):
    export_model(network, dataset, tmp_path / "model", "checkpoint")
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == network.config
    assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_exporting_leaves_the_network_as_it_was(dataset, tmp_path):
    network = finished(config()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_model(network, dataset, tmp_path / "model", "checkpoint")
    assert network.training
    assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_a_bundle_that_disagrees_is_not_kept(network, dataset, tmp_path, monkeypatch):
    other = finished(config("mbconv", "condconv", exits=1, attention="se"), seed=1)
    write = get_format("onnx").write
    spoiled("onnx", monkeypatch, lambda network, folder: write(other, folder, {}))
    with pytest.raises(ExportError, match=r"model\.onnx does not agree with the network on \d+ images"):
        export_model(network, dataset, tmp_path / "model", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_an_export_that_fails(network, dataset, tmp_path, monkeypatch):
    def write(network, folder):
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError("no space left on device")

    spoiled("onnx", monkeypatch, write)
    with pytest.raises(OSError, match="no space left"):
        export_model(network, dataset, tmp_path / "model", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_bundle_is_replaced_only_on_request(network, dataset, tmp_path):
    folder = tmp_path / "model"
    export_model(network, dataset, folder, "checkpoint")
    with pytest.raises(ExportError, match="holds an exported model already"):
        export_model(network, dataset, folder, "onnx")
    assert verify_bundle(folder)["format"] == "checkpoint"
    export_model(network, dataset, folder, "onnx", overwrite=True)
    assert verify_bundle(folder)["format"] == "onnx"
    assert not (folder / "weights.pt").exists()


def test_a_failed_replacement_keeps_the_earlier_bundle(network, dataset, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    export_model(network, dataset, folder, "checkpoint")
    other = finished(config(), seed=1)
    write = get_format("checkpoint").write
    spoiled("checkpoint", monkeypatch, lambda network, place: write(other, place, {}))
    with pytest.raises(ExportError, match=r"weights\.pt does not agree"):
        export_model(finished(config(), seed=2), dataset, folder, "checkpoint", overwrite=True)
    assert load_checkpoint(folder).config == network.config


def test_what_is_no_bundle_is_never_replaced(network, dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="exists and is no exported model"):
        export_model(network, dataset, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_taken(dataset, tmp_path):
    (tmp_path / "model").mkdir()
    export_model(finished(config()), dataset, tmp_path / "model", "checkpoint")
    assert verify_bundle(tmp_path / "model")["format"] == "checkpoint"


def test_an_unknown_format_is_refused(network, dataset, tmp_path):
    with pytest.raises(
        ExportError,
        match=r"unknown format 'onx' \(did you mean 'onnx'\?\); known: checkpoint, coreml, executorch,",
    ):
        export_model(network, dataset, tmp_path / "model", "onx")


@pytest.mark.parametrize("format", ["onnx", "pt2", "safetensors", "openvino"])
def test_a_file_says_what_it_takes_and_answers(format, dataset, tmp_path):
    if format == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    architecture = Architecture((("stage1.depth", 2),))
    facts = {"network": "abc of the study small"}
    folder = tmp_path / "model"
    export_model(
        finished(config()), dataset, folder, format, architecture=architecture, facts=facts, images=10
    )
    for said in stated(format, folder):
        assert json.loads(said["dynnas.class_names"]) == list("abcde")
        assert json.loads(said["dynnas.mean"]) == [0.4, 0.5]
        assert json.loads(said["dynnas.std"]) == [0.2, 0.3]
        assert json.loads(said["dynnas.input_shape"]) == [2, 12, 12]
        assert json.loads(said["dynnas.data_size"]) == [16, 16]
        assert said["dynnas.data"] == f"noise {dataset.digest}"
        assert Architecture.from_json(said["dynnas.architecture"]) == architecture
        assert json.loads(said["dynnas.facts"]) == facts


def stated(format, folder):
    """The metadata of every model file, by the library that reads it."""
    if format == "onnx":
        for file in ("model.onnx", "model_packed.onnx", "model_batch.onnx"):
            session = session_of(folder / file)
            yield session.get_modelmeta().custom_metadata_map
    elif format == "pt2":
        names = ("class_names", "mean", "std", "input_shape", "data_size", "data")
        for file in ("model.pt2", "model_batch.pt2"):
            found = {f"dynnas.{name}": "" for name in (*names, "architecture", "facts")}
            torch.export.load(folder / file, extra_files=found)
            yield found
    elif format == "safetensors":
        with safe_open(folder / "model.safetensors", "pt") as opened:
            yield opened.metadata()
    else:
        for file in ("model.xml", "model_batch.xml"):
            model = openvino_core().read_model(folder / file)
            yield model.get_rt_info(["model_info"]).value


def openvino_core():
    import openvino

    return openvino.Core()


def test_what_ships_is_what_the_runtimes_compile(network, dataset, tmp_path, monkeypatch):
    made, compile = [], PackedOnnxRuntime.compile
    monkeypatch.setattr(PackedOnnxRuntime, "compile", lambda *given: made.append(compile(*given)) or made[-1])
    export_model(network, dataset, tmp_path / "model", images=10)
    shipped = {file: (tmp_path / "model" / file).read_bytes() for file in ("model_packed.onnx", "model.onnx")}
    portable, packed, _ = made
    assert (portable.runtime, packed.runtime) == ("onnxruntime_portable", "onnxruntime")
    assert shipped["model_packed.onnx"].startswith(packed.data)
    assert shipped["model.onnx"].startswith(portable.data)


def test_a_changed_file_is_found(dataset, tmp_path):
    export_model(finished(config()), dataset, tmp_path / "model", "onnx")
    file = tmp_path / "model" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx: found [0-9a-f]+, the manifest says"):
        verify_bundle(tmp_path / "model")
    file.unlink()
    with pytest.raises(ExportError, match=r"model\.onnx: found no file"):
        verify_bundle(tmp_path / "model")


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(ExportError, match=r"no manifest\.json"):
        verify_bundle(tmp_path)


def test_exits_decided_by_chance_are_no_comparison(dataset, tmp_path):
    network = finished(config(exits=1))
    with torch.no_grad():
        classifier = network.segments()[0].classifier.classifier
        classifier.weight.zero_()
        classifier.bias.zero_()
    place = replace(network.config.exits[0], threshold=0.2)
    network.config = replace(network.config, exits=(place,))
    with pytest.raises(ExportError, match=r"confidence of all 70 images lies on a threshold of \[0\.2\]"):
        export_model(network, dataset, tmp_path / "model", "checkpoint")


class OfSoManyImages(nn.Module):
    """Its graph keeps the number of images of the example."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2 * 12 * 12, 5)

    def forward(self, x):
        return self.linear(x.flatten(1)) + torch.zeros(len(x), 1)


def test_a_graph_that_takes_a_fixed_number_of_images_is_named(tmp_path):
    network = PlainNetwork(OfSoManyImages().eval(), (2, 12, 12), 5).eval()
    with pytest.raises(ExportError, match=r"(?s)model_batch.onnx cannot be run on .* use x\.shape\[0\]"):
        export_model(network, noise(), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("call_ms", "images"), [(1, 64), (2, 50), (500, 4)])
def test_every_timed_image_runs_five_times(call_ms, images):
    """Of a slow file fewer images are timed, not fewer calls."""
    now, runs = 0.0, Counter()

    def predict(image):
        nonlocal now
        which = int(image[0, 0])
        runs[which] += 1
        now += call_ms / 1000 * (3 if which >= 5 and runs[which] == 1 else 1)

    timing = time_artifact(predict, np.arange(100.0)[:, None], lambda: now)
    assert timing.images == images
    assert timing.worst_ms == pytest.approx(call_ms)  # the slow first calls do not count
    assert [runs[image] for image in range(images)] == [6] * min(5, images) + [5] * max(0, images - 5)
