"""LiteRT in int8: between two scales it computes in whole numbers, as ONNX Runtime's graph says."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import config, finished, images, noise, one_by_one

from dynnas.errors import TargetError
from dynnas.export.bundle import export_model
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.settings.settings import TargetSettings

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="ai-edge-litert is not installed")

TARGET = TargetSettings(runtime="litert")
NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
SEEN = images(64, seed=1)


def types(model):
    """The types of the first inputs of convolutions and classifiers, and of additions."""
    parsed = schema.ModelT.InitFromPackedBuf(model)
    codes = [NAMES[code.builtinCode] for code in parsed.operatorCodes]
    return [
        (codes[operator.opcodeIndex], graph.tensors[operator.inputs[0]].type)
        for graph in parsed.subgraphs
        for operator in graph.operators or ()
        if codes[operator.opcodeIndex] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD")
    ]


@pytest.mark.parametrize("kind", ["basic", "mbconv", "dwsep", "shuffle_v1"])
@pytest.mark.parametrize("exits", [0, 1])
def test_it_answers_as_the_graph_that_was_quantised(kind, exits):
    network, batch = finished(config(kind, exits=exits)), images(24, seed=2)
    artifact = compile_network(network, TARGET, int8_images=SEEN)
    found = load_artifact(artifact).outputs(batch.numpy())
    theirs = OnnxRunner(to_int8_onnx(network, SEEN).SerializeToString(), threads=1)
    outputs = [theirs.outputs(image[None].numpy()) for image in batch]
    expected = np.concatenate([each["logits"] for each in outputs])
    same = np.ones(len(batch), bool)
    if exits:
        same = found["exit"] == np.concatenate([each["exit"] for each in outputs])
        assert same.mean() > 0.9
    # A step of the last scale or two: roundings of products differ.
    near = np.abs(found["logits"] - expected)[same] <= 0.03 * np.abs(expected).max()
    assert near.mean() > 0.99
    assert artifact.quantized == "int8"
    assert all(kind == schema.TensorType.INT8 for _, kind in types(artifact.data))


def test_an_int8_model_is_smaller():
    network = finished(config("basic", width=4))
    sizes = [len(compile_network(network, TARGET, int8_images=seen).data) for seen in (SEEN, None)]
    assert sizes[0] < 0.4 * sizes[1]


@torch.no_grad()
def test_kernels_that_are_mixed_stay_in_float32():
    network, batch = finished(config("basic", "condconv")), images(16, seed=2)
    artifact = compile_network(network, TARGET, int8_images=SEEN)
    expected = network(batch).numpy()
    found = one_by_one(load_artifact(artifact), batch)
    assert_allclose(found, expected, atol=0.2 * np.abs(expected).max())
    kinds = types(artifact.data)
    assert ("CONV_2D", schema.TensorType.INT8) in kinds
    assert ("FULLY_CONNECTED", schema.TensorType.FLOAT32) in kinds


def test_a_cascade_is_refused():
    cascade = chain([finished(config()), finished(config(), seed=1)], [0.5], ["a", "b"], (12, 12))
    with pytest.raises(TargetError, match="cascades are not quantised; quantise their networks"):
        compile_network(cascade, TARGET, int8_images=SEEN)


def test_it_ships_as_it_is_scored(tmp_path):
    network = finished(config("basic"))
    manifest = export_model(network, noise(), tmp_path / "model", "litert", images=40, int8_images=SEEN)
    assert manifest["quantize"] == "int8"
    (artifact,) = manifest["artifacts"]
    assert artifact["use"].endswith("in int8, as its latency is measured; channels before height and width")
    written = (tmp_path / "model" / "model.tflite").read_bytes()
    assert {kind for _, kind in types(written)} == {schema.TensorType.INT8}
