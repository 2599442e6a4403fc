"""Core ML packages: what is in them is the network, which the check would notice if it were not."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import config, finished, noise
from support.own_branches import Branchy, undecided

from dynnas.data.given import dataset_of
from dynnas.errors import ExportError, MissingExtraError
from dynnas.export.bundle import export_model, verify_bundle
from dynnas.export.formats.coreml import FILE, CoreMl
from dynnas.export.mil import MilProgram
from dynnas.runtimes.plain import PlainNetwork
from dynnas.runtimes.preprocessing import prepare_images

tools = pytest.importorskip("coremltools", reason="coremltools is not installed")
elsewhere = pytest.mark.skipif(sys.platform == "darwin", reason="macOS runs the package itself")

NETWORKS = {
    "static": config("basic"),
    "condconv and se": config("mbconv", "condconv", attention="se"),
    "dyconv": config("conv", "dyconv"),
    "exits": config("mbconv", "condconv", exits=1, attention="se"),
    "joined and mixed channels": config("shuffle_v2"),
    "sizes in arithmetic": config("conv", "pac"),
}


@pytest.fixture(scope="module")
def dataset():
    return noise()


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_package_is_the_network(kind, dataset, tmp_path):
    network = finished(NETWORKS[kind])
    manifest = export_model(network, dataset, tmp_path / "model", "coreml", images=40)
    assert manifest == verify_bundle(tmp_path / "model")
    (artifact,) = manifest["artifacts"]
    assert 30 < artifact["images"] <= 40
    assert artifact["largest_difference"] < 1e-5
    assert artifact["agreement"] == artifact["exit_agreement"] == 1
    images = prepare_images(network, dataset, dataset.test.images[:8])
    predict = CoreMl().load(tmp_path / "model" / FILE)
    found = [predict(image[None].numpy()) for image in images]
    with torch.no_grad():
        expected = network(images)
    assert_allclose(np.concatenate([logits for logits, _ in found]), expected, rtol=1e-4, atol=1e-5)
    assert {exits is None for _, exits in found} == {not network.config.exits}


def test_a_network_of_ones_own_class_ships_with_all_exits_computed(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(96, 3, 12, 12, generator=generator)
    splits = [(part, torch.arange(len(part)) % 5) for part in images.split([48, 32, 16])]
    dataset = dataset_of(tuple(splits))
    torch.manual_seed(0)
    module = undecided(Branchy(depth=1), dataset.normalise(dataset.train.images))
    network = PlainNetwork(module, (3, 12, 12), 5).eval()
    manifest = export_model(network, dataset, tmp_path / "model", "coreml", images=24)
    assert manifest["artifacts"][0]["exit_agreement"] == 1
    assert manifest["ways"] == ["exit0", "exit1", "head"]
    assert not manifest["left_out_by_exits"]


def test_the_package_says_what_it_takes_and_the_card_what_was_checked(dataset, tmp_path):
    network = finished(NETWORKS["exits"])
    manifest = export_model(network, dataset, tmp_path / "model", "coreml", images=40)
    spec = tools.utils.load_spec(str(tmp_path / "model" / FILE))
    types = tools.proto.FeatureTypes_pb2.ArrayFeatureType
    (image,) = spec.description.input
    assert (image.name, list(image.type.multiArrayType.shape)) == ("image", [1, 2, 12, 12])
    assert image.type.multiArrayType.dataType == types.FLOAT32
    outputs = {each.name: each.type.multiArrayType.dataType for each in spec.description.output}
    assert outputs == {"logits": types.FLOAT32, "exit": types.INT32}
    assert spec.specificationVersion == tools.target.iOS16.value
    said = spec.description.metadata.userDefined
    assert json.loads(said["dynnas.class_names"]) == list("abcde")
    assert json.loads(said["dynnas.mean"]) == [0.4, 0.5]
    assert set(manifest["files"]) == {
        "README.md",
        f"{FILE}/Manifest.json",
        f"{FILE}/Data/com.apple.CoreML/model.mlmodel",
        f"{FILE}/Data/com.apple.CoreML/weights/weight.bin",
    }
    card = (tmp_path / "model" / "README.md").read_text()
    assert "this format has no branches for these exits: all of the network is computed" in card
    assert "- computes in: float32; Apple's default is float16" in card
    if sys.platform != "darwin":
        assert manifest["artifacts"][0]["timing"] is None
        assert "| not run | not run |" in card
        assert "does not run this format, so nothing was timed" in card


def test_a_package_with_other_weights_is_not_kept(dataset, tmp_path, monkeypatch):
    other, write = finished(NETWORKS["static"], seed=1), CoreMl.write
    monkeypatch.setattr(CoreMl, "write", lambda self, network, *given: write(self, other, *given))
    with pytest.raises(ExportError, match=rf"{FILE} does not agree with the network on \d+ images"):
        export_model(finished(NETWORKS["static"]), dataset, tmp_path / "model", "coreml", images=40)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_printed(dataset, tmp_path, capfd):
    export_model(finished(NETWORKS["static"]), dataset, tmp_path / "model", "coreml", images=10)
    assert capfd.readouterr() == ("", "")


def test_a_package_that_was_changed_is_found(dataset, tmp_path):
    export_model(finished(NETWORKS["static"]), dataset, tmp_path / "model", "coreml", images=10)
    weights = tmp_path / "model" / FILE / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ExportError, match=r"weight\.bin: found [0-9a-f]+, the manifest says"):
        verify_bundle(tmp_path / "model")


def test_what_the_converter_does_not_know_is_refused_with_its_reason(dataset, tmp_path):
    with pytest.raises(ExportError, match=r"does not convert this network .*rank <= 5.*; take another"):
        export_model(finished(config("conv", "weightnet")), dataset, tmp_path / "model", "coreml")
    assert not (tmp_path / "model").exists()


def test_a_missing_package_names_the_extra(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dynnas\[coreml\]'"):
        export_model(finished(NETWORKS["static"]), dataset, tmp_path / "model", "coreml")
    assert not (tmp_path / "model").exists()


def operation(make, shape, path):
    """A package of one operation on `x`, read again."""
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec(shape=shape)], opset_version=tools.target.iOS16)
    def program(x):
        return make(Builder, x)

    settings = {
        "convert_to": "mlprogram",
        "minimum_deployment_target": tools.target.iOS16,
        "compute_precision": tools.precision.FLOAT32,
        "skip_model_load": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tools.convert(program, **settings).save(str(path))
    return MilProgram(path)


ROW = np.float32([[3.0, -1.0, 4.0, 1.0]])
MAP = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
OPERATIONS = {
    "slice with masks": (
        lambda mb, x: mb.slice_by_index(
            x=x, begin=[0, 3], end=[1, 0], stride=[1, -2], end_mask=[True, True], squeeze_mask=[True, False]
        ),
        ROW,
        [1.0, -1.0],
    ),
    "interleaved channels": (
        lambda mb, x: mb.concat(values=[x, mb.mul(x=x, y=10.0)], axis=1, interleave=True),
        ROW,
        [[3.0, 30.0, -1.0, -10.0, 4.0, 40.0, 1.0, 10.0]],
    ),
    "the largest two": (lambda mb, x: mb.topk(x=x, k=2, axis=1)[0], ROW, [[4.0, 3.0]]),
    "a mean without padding": (
        lambda mb, x: mb.avg_pool(
            x=x, kernel_sizes=[3, 3], strides=[3, 3], pad_type="custom", pad=[1, 1, 1, 1],
            exclude_padding_from_average=True,
        ),
        MAP,
        [[[[2.5, 4.5], [10.5, 12.5]]]],
    ),
    "a convolution with more padding behind": (
        lambda mb, x: mb.conv(
            x=x, weight=np.ones((1, 1, 3, 3), np.float32), strides=[2, 2], pad_type="same"
        ),
        MAP,
        [[[[45.0, 39.0], [66.0, 50.0]]]],
    ),
    "a transposed kernel": (
        lambda mb, x: mb.conv_transpose(
            x=x, weight=np.float32([[[[1, 2, 3]]]]), strides=[1, 2], pad_type="custom", pad=[0, 0, 1, 1]
        ),
        ROW[None, None],
        [[[[6.0, 8.0, -2.0, 1.0, 8.0, 13.0, 2.0]]]],
    ),
    "an image without its edges": (
        lambda mb, x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 1]),
        MAP,
        [[[[4.0, 5.0, 6.0]]]],
    ),
    "norms of an image alone": (
        lambda mb, x: mb.instance_norm(x=x, gamma=[2.0], beta=[1.0], epsilon=0.0),
        np.float32([[[[1.0, 3.0]]]]),
        [[[[-1.0, 3.0]]]],
    ),
    "reflections": (
        lambda mb, x: mb.pad(x=x, pad=[0, 0, 1, 2], mode="reflect"),
        ROW,
        [[-1.0, 3.0, -1.0, 4.0, 1.0, 4.0, -1.0]],
    ),
    "a hard sigmoid": (
        lambda mb, x: mb.sigmoid_hard(x=x, alpha=0.2, beta=0.5),
        ROW,
        [[1.0, 0.3, 1.0, 0.7]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_what_apple_says(name, tmp_path):
    """Expected are numbers worked out by hand."""
    make, given, expected = OPERATIONS[name]
    program = operation(make, given.shape, tmp_path / "one.mlpackage")
    (found,) = program({"x": torch.from_numpy(given)}).values()
    assert_allclose(found.numpy(), expected, rtol=1e-6)


@elsewhere
def test_an_operation_that_the_check_does_not_know_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"does not know the operations atanh; export it on macOS"):
        operation(lambda mb, x: mb.atanh(x=x), ROW.shape, tmp_path / "one.mlpackage")
