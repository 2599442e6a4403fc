"""Artifacts: what was compiled runs the same after it has travelled, whatever the network is."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import CHANNELS, RESOLUTION, config, finished, images, one_by_one
from torch import nn

from dynnas.errors import TargetError
from dynnas.latency.remote.network import RemoteNetwork
from dynnas.latency.runner import build_runner
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.runtimes.document import DocumentError, write_document
from dynnas.runtimes.runtime import get_runtime, offered_runtimes
from dynnas.settings.registries import RUNTIMES
from dynnas.settings.settings import TargetSettings

SHAPE = (CHANNELS, RESOLUTION, RESOLUTION)
INSTALLED = [name for name in offered_runtimes("cpu") if name not in ("ncnn", "torch_compile")]


class ConvNet(nn.Module):
    """A class as anyone writes one, which knows nothing of dynnas."""

    def __init__(self, width=8):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(CHANNELS, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(0)
    network = ConvNet()
    network.train()(images(32))
    return network.eval()


def sent(artifact):
    """What a device makes of the bytes that it gets."""
    received = Artifact.from_bytes(artifact.to_bytes())
    assert received.live is None
    assert received == replace(artifact, files=dict(artifact.files))
    assert received.digest == artifact.digest
    return received


@torch.no_grad()
def logits_of(network, batch):
    return torch.cat([network(image[None]) for image in batch]).numpy()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", ["static", "exits", "cascade"])
@pytest.mark.parametrize("runtime", INSTALLED)
def test_a_sent_artifact_answers_as_the_network(runtime, kind):
    network = finished(config(op="condconv", exits=kind == "exits"))
    if kind == "cascade":
        network = chain([network, finished(config(width=2), seed=1)], (0.5,), ("a", "b"), SHAPE[1:]).eval()
    artifact = compile_network(network, TargetSettings(runtime=runtime))
    batch = images(12)
    for each in (artifact, sent(artifact)):
        found = one_by_one(load_artifact(each), batch)
        assert_allclose(found, logits_of(network, batch), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", INSTALLED)
def test_an_own_class_is_compiled_sent_and_recognised(runtime, batch, own):
    target = TargetSettings(runtime=runtime, batch=batch)
    artifact = compile_network(own, target, SHAPE)
    x = images(batch)
    with torch.no_grad():
        expected = own(x).numpy()
    for each in (artifact, sent(artifact)):
        assert_allclose(load_artifact(each)(x.numpy()), expected, rtol=1e-4, atol=1e-4)
    assert_allclose(build_runner(own, target, SHAPE)(x.numpy()), expected, rtol=1e-4, atol=1e-4)
    remote = build_runner(own, replace(target, device="tcp://somewhere:1"), SHAPE)
    assert isinstance(remote, RemoteNetwork)
    assert remote.matches(expected, x.numpy())
    assert not remote.matches(expected + 1, x.numpy())


def test_an_own_class_in_bfloat16(own):
    artifact = compile_network(own, TargetSettings(runtime="torch", dtype="bfloat16"), SHAPE)
    x = images()
    with torch.no_grad():
        expected = own(x).numpy()
    for each in (artifact, sent(artifact)):
        assert_allclose(load_artifact(each)(x.numpy()), expected, rtol=0.05, atol=0.05)


def test_the_shape_of_an_own_class_must_be_given(own):
    with pytest.raises(TargetError, match=r"what images a ConvNet takes is not known; give its shape"):
        compile_network(own, TargetSettings())
    with pytest.raises(TargetError, match=r"shape \(12, 10\); allowed is \(channels, height, width\)"):
        compile_network(own, TargetSettings(), (12, 10))


class WithExit(ConvNet):
    """A class that gives the outputs of an early exit and of its end."""

    def forward(self, x):
        return self.head(self.features(x)[:, :, :2, :2].mean((2, 3))), super().forward(x)


@pytest.mark.parametrize("runtime", INSTALLED)
def test_images_may_be_rectangles_and_the_last_output_counts(runtime):
    torch.manual_seed(0)
    network, x = WithExit().eval(), torch.randn(1, CHANNELS, 12, 7)
    artifact = compile_network(network, TargetSettings(runtime=runtime), (CHANNELS, 12, 7))
    assert artifact.metadata["shape"] == f"{CHANNELS} 12 7"
    with torch.no_grad():
        expected = network(x)[1].numpy()
    for each in (artifact, sent(artifact)):
        assert_allclose(load_artifact(each)(x.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_compiling_keeps_nothing_of_the_network_that_changes_later(own):
    network, x = copy.deepcopy(own), images()
    artifact = compile_network(network, TargetSettings(runtime="torch"), SHAPE)
    expected = load_artifact(artifact)(x.numpy())
    with torch.no_grad():
        network.head.weight.zero_()
    assert np.array_equal(load_artifact(artifact)(x.numpy()), expected)


def test_damaged_bytes_are_no_artifact():
    with pytest.raises(DocumentError, match="no artifact: KeyError"):
        Artifact.from_bytes(write_document({"entry": "model.onnx"}))
    header = {"entry": "model.onnx", "media_type": "", "runtime": "torch", "metadata": {}}
    with pytest.raises(DocumentError, match=r"an artifact without its file 'model\.onnx'"):
        Artifact.from_bytes(write_document(header))
    with pytest.raises(DocumentError, match="no artifact: AttributeError"):
        Artifact.from_bytes(write_document(header | {"metadata": []}))
    with pytest.raises(DocumentError, match="no network: KeyError"):
        load_artifact(Artifact({"x": write_document({})}, "x", "application/vnd.dynnas.network", "torch"))
    with pytest.raises(TargetError, match="torch runs no application/onnx; compile the network again"):
        load_artifact(Artifact({"x": b""}, "x", "application/onnx", "torch"))


def test_runtimes_are_listed_without_loading_what_they_run_in():
    code = (
        "import sys; from dynnas.settings.registries import RUNTIMES; "
        "list(RUNTIMES); print({'torch', 'numpy'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
    preferred = ["onnxruntime", "onnxruntime_portable", "openvino", "torch", "torch_compile"]
    assert [*RUNTIMES][: len(preferred)] == preferred


def test_fingerprints_name_the_form_of_packed_graphs():
    import onnxruntime

    version = onnxruntime.__version__
    assert get_runtime("onnxruntime").version() == f"onnxruntime {version}, packed graphs 3"
    assert get_runtime("onnxruntime_portable").version() == f"onnxruntime_portable {version}"
    assert get_runtime("torch").version() == f"torch {torch.__version__}"
