"""LiteRT: models in which exits and gates are branches, whose answers are torch's; what it lacks is named."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.gated import gated_config, undecided
from support.graphs import answer
from support.networks import config, finished, images, one_after_another, one_by_one
from torch import nn

from dynnas.errors import MissingExtraError, TargetError
from dynnas.latency.anchors import build_anchors
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.settings.settings import TargetSettings
from dynnas.space.space import Space

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="ai-edge-litert is not installed")

TARGET = TargetSettings(runtime="litert")
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL"}
NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def compiled(network):
    return load_artifact(Artifact.from_bytes(compile_network(network, TARGET).to_bytes()))


def parsed(network):
    """The model as the schema has it, and the operators of each subgraph by its name."""
    model = schema.ModelT.InitFromPackedBuf(compile_network(network, TARGET).data)
    codes = [NAMES[code.builtinCode] for code in model.operatorCodes]
    return model, {
        graph.name.decode(): [codes[operator.opcodeIndex] for operator in graph.operators or ()]
        for graph in model.subgraphs
    }


@torch.no_grad()
@pytest.mark.sampled(3)
@pytest.mark.parametrize("criterion", ["confidence", "entropy", "learned", "policy"])
@pytest.mark.parametrize("op", ["static", "condconv", "dynet"])
def test_images_leave_where_they_do_in_torch(op, criterion):
    network = finished(config(op=op, exits=2, attention="se", criterion=criterion))
    batch = images(40, seed=2)
    found = compiled(network).outputs(batch.numpy())
    expected, exits = one_after_another(network, batch)
    assert len(set(exits)) > 1
    assert found["exit"].tolist() == exits
    assert_allclose(found["logits"], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_what_stands_behind_an_exit_is_a_branch():
    _, operators = parsed(finished(config("dwsep", exits=2)))
    inside = [[code in CONVOLUTIONS for code in codes] for codes in operators.values() if codes]
    # The stem and the first block, then a block each, of two; one before each classifier.
    assert [sum(each) for each in inside] == [1 + 2 + 1, 2 + 1, 2 + 1]
    assert [operators[name] for name in operators if name.startswith("then")] == [[], []]
    assert Counter(code for inside in operators.values() for code in inside)["IF"] == 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("gates", [("skip", "width"), ("skip", "channels"), ("positions", "moe")])
def test_gates_branch_and_answer_as_torch(gates):
    network, batch = undecided(gated_config(gates, exits=1)), images(16)
    assert_allclose(one_by_one(compiled(network), batch), answer(network, batch)[0], rtol=1e-3, atol=1e-3)
    _, operators = parsed(network)
    assert sum(inside.count("IF") for inside in operators.values()) > 1


def test_a_block_that_is_left_out_is_an_empty_branch():
    _, operators = parsed(undecided(gated_config(("skip", "width"))))
    inside = [codes for name, codes in operators.items() if name != "main"]
    assert any(not codes for codes in inside)
    assert any(CONVOLUTIONS & {*codes} for codes in inside)


def test_branches_share_their_weights():
    model, _ = parsed(undecided(gated_config(("skip", "width"), exits=2)))
    contents = [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None]
    assert len(set(contents)) == len(contents)


@torch.no_grad()
@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "case",
    [
        *({"op": op} for op in KERNELS),
        *({"kind": kind} for kind in BLOCKS if kind != "mbconv"),
        *({"attention": attention} for attention in ATTENTIONS if attention != "none"),
        *({"kind": "conv", "activation": activation} for activation in ACTIVATIONS),
    ],
    ids=lambda case: "-".join(case.values()),
)
def test_every_operator_of_spaces_answers_as_torch(case):
    network, batch = finished(config(**case)), images(8)
    expected = network(batch).numpy()
    found = one_by_one(compiled(network), batch)
    assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(expected).max()))


@torch.no_grad()
def test_a_cascade_is_one_model():
    members = [finished(config(op="condconv")), finished(config("basic", exits=1), seed=1)]
    batch = images(30)
    sure = members[0](batch).softmax(1).amax(1).median().item() + 1e-3
    cascade = chain(members, [sure], ["a", "b"], (12, 12))
    expected, exits = one_after_another(cascade, batch)
    assert set(exits) == {0, 1}
    found = compiled(cascade).outputs(batch.numpy())
    assert found["exit"].tolist() == exits
    assert_allclose(found["logits"], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_an_operator_that_litert_lacks_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.det(x[:, :, :2, :2])

    with pytest.raises(
        TargetError,
        match=r"LiteRT cannot run this network: it has no operator Det; write that part with other "
        "operators, or use runtime onnxruntime or torch",
    ):
        compile_network(Odd().eval(), TARGET, shape=(3, 8, 8))


class Perhaps(nn.Module):
    """A network, perhaps with an operator that LiteRT lacks."""

    def __init__(self, odd: bool, width: int) -> None:
        super().__init__()
        self.odd, self.conv = odd, nn.Conv2d(3, width, 3)

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return x * torch.linalg.det(x[:, :4].view(-1, 2, 2))[:, None] if self.odd else x


def test_anchors_are_networks_that_the_target_runs():
    space = Space.of(Perhaps, odd=[True, False], width=[4, 8, 16])
    first, second = build_anchors(space, TARGET, 3, 4, (8, 8))
    for workload in (first, second):
        assert np.isfinite(workload.runner(workload.images[0])).all()
    with pytest.raises(TargetError, match="it has no operator Det"):
        build_anchors(space.restrict({"odd": [True]}), TARGET, 3, 4, (8, 8))


def test_a_model_that_is_damaged_is_refused():
    artifact = compile_network(finished(config()), TARGET)
    damaged = Artifact({"model.tflite": artifact.data[:400]}, "model.tflite", artifact.media_type, "litert")
    with pytest.raises(TargetError, match="LiteRT cannot load this network"):
        load_artifact(damaged)


def test_without_litert_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtraError, match=r"dynnas\[litert\]"):
        compile_network(finished(config()), TARGET)
