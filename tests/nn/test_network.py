"""A network as a whole: exits, segments, and the way through it."""

import pytest
import torch
from support.contexts import running
from support.slot_configs import network
from torch.testing import assert_close

from dynnas.nn.context import layers_of
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.kernels.kernel import Kernel
from dynnas.nn.networks.network import Network, run
from dynnas.testing.conformance import lively


def test_logits_are_the_exits_then_the_head():
    config = network(exits=(0.5, 0.9))
    net = Network(config).eval()
    x = torch.randn(3, 1, 8, 8)
    features = net.slots["stage1__0"](net.slots["stem"](x))
    first, second, head = net.logits(x)
    assert_close(first, net.slots["exits__stage1-0"](features))
    assert_close(second, net.slots["exits__stage1-1"](features))
    assert_close(head, net.slots["head"](net.slots["stage2__0"](features)))


def test_run_calls_every_slot_with_its_config():
    config = network(exits=(0.5,))
    calls = []

    def call(slot, slot_config, x):
        calls.append((slot, slot_config))
        return x

    assert len(run(config, call, torch.zeros(1))) == 2
    assert [slot for slot, _ in calls] == ["stem", "stage1.0", "exits.stage1-0", "stage2.0", "head"]
    assert dict(calls) == dict(config.slots())


def test_without_exits_forward_is_the_head():
    net = Network(network()).eval()
    x = torch.randn(2, 1, 8, 8)
    (head,) = net.logits(x)
    assert_close(net(x), head, rtol=0, atol=0)


def leave_alone(net, image):
    """Run one image segment by segment; the number of the classifier where it leaves, and its logits."""
    features = image
    for number, segment in enumerate(net.segments()):
        features = segment.body(features)
        logits = segment.classifier(features)
        if segment.threshold is None or logits.softmax(1).max() >= segment.threshold:
            return number, logits
    raise AssertionError("the last segment has a threshold")


@pytest.mark.parametrize("ops", [("static", "static"), ("condconv", "dynet"), ("dynet", "dyconv")])
def test_forward_leaves_where_each_image_alone_would(ops):
    torch.manual_seed(0)
    net = lively(Network(network(exits=(0.0, 0.0), ops=ops))).eval().requires_grad_(False)
    x = torch.randn(24, 1, 8, 8)
    confidences = [logits.softmax(1).amax(1) for logits in net.logits(x)[:-1]]
    # Thresholds with which some images leave at each exit and some at the head.
    net.config = network(exits=[float(each.quantile(0.6)) for each in confidences], ops=ops)
    left = [leave_alone(net, image[None]) for image in x]
    assert {number for number, _ in left} == {0, 1, 2}
    assert_close(net(x), torch.cat([logits for _, logits in left]), rtol=0, atol=1e-5)


def test_thresholds_at_the_ends():
    x = torch.randn(4, 1, 8, 8)
    net = Network(network(exits=(0.0,))).eval()
    assert_close(net(x), net.logits(x)[0], rtol=0, atol=0)
    net = Network(network(exits=(1.0,))).eval()
    assert_close(net(x), net.logits(x)[1], rtol=0, atol=0)


def test_segments_share_the_modules_of_the_network():
    net = Network(network(exits=(0.5, 0.9)))
    segments = net.segments()
    assert [len(segment.body) for segment in segments] == [2, 0, 1]
    assert [segment.threshold for segment in segments] == [0.5, 0.9, None]
    assert segments[0].body[0] is net.slots["stem"]
    assert segments[2].classifier is net.slots["head"]


def test_a_copy_in_another_mode_leaves_the_network_as_it_was():
    own = Network(network(ops=("condconv", "dynet")))
    changed = running(own, ConvMode("conv_first"))
    for module, strategy in ((changed, "conv_first"), (own, "auto")):
        kernels = [kernel for kernel in module.modules() if isinstance(kernel, Kernel)]
        assert {kernel.context[ConvMode].strategy for kernel in layers_of(module)} == {strategy}
        assert {kernel.weight.data_ptr() for kernel in kernels} == {
            kernel.weight.data_ptr() for kernel in own.modules() if isinstance(kernel, Kernel)
        }
