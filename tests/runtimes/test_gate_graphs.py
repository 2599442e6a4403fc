"""Graphs with gates: what an image leaves out does not run, and the answer is that of the masked network."""

import pytest
import torch
from support.combinations import combinations
from support.contexts import decisions
from support.gated import gated_config, undecided
from support.graphs import assert_answers, assert_answers_batch
from support.networks import images
from support.profiled import convolutions_run

from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx

GATES = (
    ("skip", "width"),
    ("skip", "channels"),
    ("width", "channels"),
    ("width", "width"),
    ("skip", "routes"),
    ("skip", "tree"),
    ("skip", "moe"),
)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("gates", "exits", "export", "op"),
    combinations(GATES, [0, 1], [to_onnx, to_packed_onnx], ["static", "dynet"], every=6),
)
def test_the_graph_for_one_image_answers_as_the_masked_network(export, gates, exits, op):
    network, batch = undecided(gated_config(gates, op=op, exits=exits, attention="se")), images(24)
    assert_answers(export(network), network, batch)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("gates", GATES, ids="-".join)
def test_the_graph_for_batches_is_masked(gates):
    network, batch = undecided(gated_config(gates, exits=1)), images(24)
    assert_answers_batch(to_onnx_batch(network), network, batch)


def test_a_skipped_block_does_not_run(tmp_path):
    network, batch = undecided(gated_config(("skip", "width"))), images(24)
    with decisions(network) as found, torch.no_grad():
        network.logits(batch)
    runs = found[0].choice[:, 1]
    model = to_onnx(network)
    ran = {
        bool(run): convolutions_run(model, batch[runs == run][:1].numpy(), tmp_path) for run in (True, False)
    }
    # The stem, three of each block that runs, the classifier's.
    assert ran == {True: 1 + 9 + 1, False: 1 + 6 + 1}


@pytest.mark.parametrize(
    ("gate", "widths"),
    [
        ("width", (4, 8, 12, 16)),
        ("routes", (2, 5, 9, 16)),
        ("tree", (3, 5, 6, 7, 7, 8, 8, 16)),
        ("moe", (8,) * 6),
    ],
)
def test_a_branch_holds_weights_of_its_own_width(gate, widths):
    """Constants, so that the runtime can lay them out beforehand."""
    model = to_onnx(undecided(gated_config(("skip", gate))))
    shapes = sorted(
        tuple(tensor.dims)
        for graph in _graphs(model.graph)
        for tensor in graph.initializer
        if len(tensor.dims) == 4 and tensor.dims[2:] == [5, 5]
    )
    assert shapes == [(width, 1, 5, 5) for width in widths]


def _graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
