"""Graphs and runners of networks whose gates look at values beside their block's input."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.contexts import decisions
from support.graphs import answer, assert_answers, assert_answers_batch
from support.networks import images, one_by_one
from support.profiled import convolutions_run
from support.reading import halting, halting_config, of_two_minds, reading_config

from dynnas.latency.runner import build_runner
from dynnas.runtimes.batches import build_batch_runner
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.torch.export import to_pt2
from dynnas.settings.settings import TargetSettings

GATES = (("skip", "skip", "width"), ("width", "skip", "channels"))


READS = ("policy", "recurrent")


def network_of(gates, exits, reads="policy"):
    return of_two_minds(reading_config(gates, reads, exits))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("gates", "exits", "export", "reads"),
    combinations(GATES, [0, 2], [to_onnx, to_packed_onnx], READS),
)
def test_the_graph_for_one_image_answers_as_the_masked_network(reads, export, gates, exits):
    network, batch = network_of(gates, exits, reads), images(24)
    assert_answers(export(network), network, batch)


@torch.no_grad()
def one_image_each(network, batch):
    """An image for each number of gated blocks that some image runs."""
    with decisions(network) as found:
        network.logits(batch)
    runs = sum(decision.choice[:, 1].long() for decision in found)
    return {number: batch[runs == number][:1].numpy() for number in set(runs.tolist())}


def test_blocks_that_the_policy_network_skips_do_not_run(tmp_path):
    network, batch = network_of(("skip", "skip", "none"), 0), images(24)
    images_of = one_image_each(network, batch)
    assert len(images_of) > 1
    model = to_onnx(network)
    for number, image in images_of.items():
        # Those of the policy network, the stem, three of each block that runs, the classifier's.
        policy = convolutions_run(model, image, tmp_path) - (1 + 3 * (2 + number) + 1)
        assert policy == 4


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("runtime", "exits", "reads"), combinations(["torch", "onnxruntime"], [0, 1], READS, every=2)
)
def test_runners_answer_as_the_masked_network(reads, runtime, exits):
    network, batch = network_of(GATES[0], exits, reads), images(16)
    logits, taken = answer(network, batch)
    target = TargetSettings(runtime=runtime)
    assert_allclose(one_by_one(build_runner(network, target), batch), logits, rtol=1e-3, atol=1e-3)
    for execution in ("masked", "compacted"):
        found, left = build_batch_runner(network, target, execution)(batch.numpy())
        assert left.tolist() == taken.tolist()
        assert_allclose(found, logits, rtol=1e-3, atol=1e-3)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("exits", "reads"), combinations([0, 1], READS, every=2))
def test_batches_and_programs_answer_as_the_masked_network(reads, exits):
    network, batch = network_of(GATES[1], exits, reads), images(8)
    logits, _ = answer(network, batch)
    assert_answers_batch(to_onnx_batch(network), network, batch)
    program = to_pt2(network).module()
    with torch.no_grad():
        outputs = [program(image[None]) for image in batch]
    assert_allclose(
        np.concatenate([output[0] if exits else output for output in outputs]), logits, rtol=1e-3, atol=1e-3
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("exits", "reads"), combinations([(), (2,)], ["block", "policy", "recurrent"], every=3)
)
def test_graphs_of_runs_that_end_early_answer_as_the_masked_network(reads, exits):
    network, batch = halting(halting_config(["halt"] * 4, exits, reads)), images(24)
    logits, _ = answer(network, batch)
    for export in (to_onnx, to_packed_onnx):
        assert_answers(export(network), network, batch)
    assert_answers_batch(to_onnx_batch(network), network, batch)
    found = one_by_one(build_runner(network, TargetSettings(runtime="torch")), batch)
    assert_allclose(found, logits, rtol=1e-3, atol=1e-3)


def test_blocks_behind_the_last_that_counts_do_not_run(tmp_path):
    network, batch = halting(halting_config(["halt"] * 5)), images(61)
    images_of = one_image_each(network, batch)
    assert len(images_of) > 2
    model = to_onnx(network)
    for number, image in images_of.items():
        # The stem, three of each block that runs, the classifier's.
        assert convolutions_run(model, image, tmp_path) == 1 + 3 * (2 + number) + 1
