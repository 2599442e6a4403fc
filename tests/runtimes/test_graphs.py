"""The graphs that ship: for one image with branches that are really skipped, and for any batch."""

from itertools import cycle

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.graphs import answer, assert_answers, assert_answers_batch
from support.networks import config, finished, images
from support.profiled import convolutions_run

from dynnas.nn.config.vocabulary import CRITERIA
from dynnas.nn.exits.exits import select_confident
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import BLOCKS
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch
from dynnas.runtimes.torch.export import to_pt2, to_pt2_batch


def test_the_first_confident_exit_wins():
    sure, unsure = [4.0, 0.0], [0.1, 0.0]
    first = torch.tensor([sure, unsure, unsure, sure])
    second = torch.tensor([unsure, sure, unsure, sure]) + 1
    last = torch.full((4, 2), 9.0)
    logits, exits = select_confident((first, second, last), (0.9, 0.9))
    assert exits.tolist() == [0, 1, 2, 0]
    assert torch.equal(logits, torch.stack([first[0], second[1], last[2], first[3]]))


def test_a_confidence_on_the_threshold_leaves():
    early, last = torch.zeros(1, 2), torch.ones(1, 2)
    assert select_confident((early, last), (0.5,))[1].tolist() == [0]


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("op", "exits", "criterion"),
    [
        *combinations(KERNELS, [1, 2], ["confidence"], every=2),
        *combinations(["dynet"], [1, 2], ["entropy", "learned"], every=2),
    ],
)
def test_the_branching_graph_takes_each_image_to_its_exit(op, exits, criterion):
    network, batch = finished(config(op=op, exits=exits, criterion=criterion)), images(40)
    assert set(answer(network, batch)[1]) == set(range(exits + 1)), "the test needs images for every exit"
    assert_answers(to_onnx(network), network, batch)


def test_what_follows_the_exit_taken_does_not_run(tmp_path):
    network, batch = finished(config("dwsep", exits=2)), images(20)
    _, taken = answer(network, batch)
    model = to_onnx(network)
    ran = [convolutions_run(model, batch[taken == exit][:1].numpy(), tmp_path) for exit in range(3)]
    # The stem, two of each block, one of each classifier passed.
    assert ran == [1 + 2 + 1, 1 + 4 + 2, 1 + 6 + 3]


def test_there_is_one_branching_for_each_exit():
    def count(graph):
        nodes = list(graph.node)
        inner = [attribute.g for node in nodes for attribute in node.attribute if attribute.HasField("g")]
        return sum(node.op_type == "If" for node in nodes) + sum(count(graph) for graph in inner)

    assert [count(to_onnx(finished(config(exits=exits))).graph) for exits in (0, 1, 2)] == [0, 1, 2]


@pytest.mark.parametrize("exits", [0, 2])
def test_inputs_and_outputs_are_as_documented(exits):
    network = finished(config(exits=exits))
    for model, batch in ((to_onnx(network), 1), (to_onnx_batch(network), "batch")):
        onnx.checker.check_model(model, full_check=True)
        values = {value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)}
        shapes = {
            name: [axis.dim_param or axis.dim_value for axis in kind.shape.dim]
            for name, kind in values.items()
        }
        expected = {"image": [batch, 2, 12, 12], "logits": [batch, 5]}
        assert shapes == (expected | {"exit": [batch]} if exits else expected)


@pytest.mark.sampled(8)
# Every block and every op; conformance has all pairs of them, one block at a time.
@pytest.mark.parametrize(("kind", "op"), [*zip(cycle(BLOCKS), KERNELS, strict=False)])
def test_the_batch_graph_takes_any_batch(kind, op):
    network = finished(config(kind, op, exits=1, attention="se"))
    model = to_onnx_batch(network)
    for size in (1, 2, 7):
        assert_answers_batch(model, network, images(size))


@pytest.mark.parametrize("criterion", combinations(CRITERIA, every=3))
def test_the_exported_program_branches_too(criterion):
    network, batch = finished(config(op="dyconv", exits=2, criterion=criterion)), images(12)
    logits, taken = answer(network, batch)
    program, batch_program = to_pt2(network).module(), to_pt2_batch(network).module()
    with torch.no_grad():
        outputs = [program(image[None]) for image in batch]
        batch_logits, batch_taken = batch_program(batch)
    assert [int(exit) for _, exit in outputs] == taken.tolist() == batch_taken.tolist()
    assert_allclose(np.concatenate([one.numpy() for one, _ in outputs]), logits, rtol=1e-4, atol=1e-4)
    assert_allclose(batch_logits.numpy(), logits, rtol=1e-4, atol=1e-4)
