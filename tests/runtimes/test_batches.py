"""A batch says of every image what it says of the image alone, however many leave and wherever."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.networks import config, finished, images, one_after_another

from dynnas.errors import TargetError
from dynnas.latency.runner import build_runner
from dynnas.nn.context import PLAIN, layers_of
from dynnas.nn.exits.exits import sureness
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.runtimes.batches import build_batch_runner
from dynnas.runtimes.branching import leave_one_after_another
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.settings.settings import TargetSettings

ONNX = TargetSettings(runtime="onnxruntime")
EAGER = TargetSettings(runtime="torch")
CUDA = TargetSettings(device="cuda")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
UNDECIDED = 1e-4  # a confidence so near to its threshold may fall on either side of it by rounding

NETWORKS = {op: finished(config(op=op, exits=2, attention="se")) for op in ("static", "condconv", "dynet")}
NETWORKS |= {
    criterion: finished(config(exits=2, criterion=criterion)) for criterion in ("entropy", "learned")
}
# All leave, none leaves, or some.
THRESHOLDS = st.one_of(st.just(0.0), st.just(1.1), st.floats(0.2, 0.99))


def with_thresholds(network, thresholds):
    """The same network, and its weights, with other thresholds."""
    exits = tuple(
        replace(place, threshold=threshold)
        for place, threshold in zip(network.config.exits, thresholds, strict=True)
    )
    other = type(network)(replace(network.config, exits=exits)).eval()
    other.load_state_dict(network.state_dict())
    return other


@torch.no_grad()
def alone(network, batch):
    """Every image by itself, in torch: logits (B, classes), exits (B,)."""
    logits, exits = one_after_another(network, batch)
    return logits.numpy(), np.array(exits)


@torch.no_grad()
def decided(network, batch):
    early = zip(network.logits(batch), network.config.exits, strict=False)
    gaps = [sureness(output, place.criterion) - place.threshold for output, place in early]
    return all((gap.abs() > UNDECIDED).all() for gap in gaps)


def agree(network, batch, target):
    logits, exits = alone(network, batch)
    for execution in ("masked", "compacted"):
        said, left = build_batch_runner(network, target, execution)(batch.numpy())
        assert left.tolist() == exits.tolist()
        assert left.dtype == np.int64
        assert_allclose(said, logits, rtol=1e-4, atol=1e-4)
    one_by_one = build_runner(network, target)
    assert_allclose(
        np.concatenate([one_by_one(image[None].numpy()) for image in batch]), logits, rtol=1e-4, atol=1e-4
    )


def check(op, thresholds, count, seed, target):
    network, batch = with_thresholds(NETWORKS[op], thresholds), images(count, seed)
    assume(decided(network, batch))
    agree(network, batch, target)


cases = given(
    op=st.sampled_from(sorted(NETWORKS)),
    thresholds=st.tuples(THRESHOLDS, THRESHOLDS),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
)


@cases
@settings(deadline=None, max_examples=12)
def test_in_torch(op, thresholds, count, seed):
    check(op, thresholds, count, seed, EAGER)


@cases
@settings(deadline=None, max_examples=4)
def test_in_onnxruntime(op, thresholds, count, seed):
    check(op, thresholds, count, seed, ONNX)


@needs_cuda
@cases
@settings(deadline=None, max_examples=15)
def test_on_cuda(op, thresholds, count, seed):
    check(op, thresholds, count, seed, CUDA)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("thresholds", "count", "target"),
    combinations([(0.0, 0.0), (1.1, 0.0), (1.1, 1.1)], [1, 6], [ONNX, EAGER]),
)
def test_all_leave_at_once(thresholds, count, target):
    exit = sum(threshold > 1 for threshold in thresholds)
    network = with_thresholds(NETWORKS["dynet"], thresholds)
    _, exits = build_batch_runner(network, target, "compacted")(images(count).numpy())
    assert exits.tolist() == [exit] * count
    agree(network, images(count), target)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("op", "target"), combinations(KERNELS, [ONNX, EAGER]))
def test_every_op(op, target):
    agree(finished(config(op=op, exits=1)), images(7), target)


@pytest.mark.parametrize("target", [ONNX, EAGER], ids=["onnxruntime", "torch"])
def test_without_exits_everything_leaves_by_the_head(target):
    agree(finished(config(op="condconv")), images(5), target)


def left_before(exits, segments):
    """How many images reach each segment that any reaches."""
    return [int((exits >= index).sum()) for index in range(segments) if (exits >= index).any()]


def test_onnxruntime_runs_only_what_is_left(monkeypatch):
    network, batch = NETWORKS["condconv"], images(32)
    runner = build_batch_runner(network, ONNX, "compacted")
    sizes, outputs = [], OnnxRunner.outputs
    monkeypatch.setattr(
        OnnxRunner, "outputs", lambda self, images: sizes.append(len(images)) or outputs(self, images)
    )
    _, exits = runner(batch.numpy())
    assert len(set(exits)) == 3
    assert sizes == left_before(exits, 3)


@torch.no_grad()
def test_torch_runs_only_what_is_left():
    segments, sizes = NETWORKS["condconv"].segments(), []
    for segment in segments:
        segment.body.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    _, exits = leave_one_after_another(segments, images(32))
    assert len(exits.unique()) == 3
    assert sizes == left_before(exits, 3)


def test_building_leaves_the_network_as_it_was():
    network = finished(config(op="condconv", exits=1)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for target in (ONNX, EAGER):
        build_batch_runner(network, target, "compacted")
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(layer.context is PLAIN for layer in layers_of(network))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (TargetSettings("tcp://pi:7411", "torch"), "are run on this machine, not on tcp://pi:7411"),
        (
            TargetSettings(runtime="openvino"),
            "runtime openvino runs no batches of any size; use runtime onnxruntime",
        ),
    ],
)
def test_where_batches_of_any_size_are_not_run_is_refused(target, message):
    with pytest.raises(TargetError, match=message):
        build_batch_runner(finished(config(exits=1)), target, "masked")
