"""Elastic and extracted networks are equal, and only the slice learns."""

import random

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.nn.context import Context, supplied
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.staged import staged_supernet

SPACE = """
input: {channels: 2, classes: 5, resolutions: [8, 12]}
stem: {width: [4, 8], kernel: [3, 5], stride: 1, activation: relu}
stages:
  - block: [conv, dwsep, mbconv]
    depth: [1, 2]
    width: [8, 12]
    stride: 2
    kernel: [3, 5]
    expand: [2, 3]
    op: [static, condconv, dyconv, dynet]
    experts: [2, 4]
    group: [2, 3]
    attention: [none, se]
    activation: [relu, relu6, hswish, silu]
  - {block: mbconv, depth: [1, 2], width: [8, 16], stride: 1, kernel: 3, expand: [1, 2],
     op: [static, dynet], group: 2, activation: relu}
head: {width: [16, 24], activation: relu, dropout: [0.0, 0.2]}
exits: {positions: [stage1], count: [0, 1], thresholds: [0.5, 0.9], width: 8, activation: relu}
"""


@pytest.fixture(scope="module")
def space():
    return parse_space(SPACE)


@pytest.fixture(scope="module", params=["shared", "separate"])
def supernet(space, request):
    return staged_supernet(space, channels=2, classes=5, experts=request.param, seed=1)


def _architectures(space, count):
    rng = random.Random(0)
    return [smallest(space), largest(space), *(sample(space, rng) for _ in range(count))]


def test_extracted_network_gives_equal_outputs_and_gradients(space, supernet):
    """In training mode both use the statistics of the batch; the difference is 0, not small."""
    supernet.train()
    for number, architecture in enumerate(_architectures(space, 12)):
        resolution = supernet.build.config(architecture).resolution
        x = torch.randn(4, 2, resolution, resolution, generator=torch.Generator().manual_seed(number))
        torch.manual_seed(number)  # dropout
        elastic = supernet(architecture, x)
        supernet.zero_grad(set_to_none=True)
        torch.stack([logits.square().sum() for logits in elastic]).sum().backward()
        network = supernet.extract(architecture)
        torch.manual_seed(number)
        plain = network.logits(x)
        torch.stack([logits.square().sum() for logits in plain]).sum().backward()

        assert len(elastic) == len(plain) == 1 + len(network.config.exits)
        for ours, theirs in zip(elastic, plain, strict=True):
            assert torch.equal(ours, theirs)
        shared = sum(float(p.grad.double().sum()) for p in supernet.parameters() if p.grad is not None)
        own = sum(float(p.grad.double().sum()) for p in network.parameters() if p.grad is not None)
        assert shared == pytest.approx(own, rel=1e-4, abs=1e-3)
        touched = sum(_touched(p.grad) for p in supernet.parameters() if p.grad is not None)
        assert touched <= sum(p.numel() for p in network.parameters())


def _touched(grad):
    """How many weights learn; those of a bank that all learn the same are one static kernel."""
    single = grad.ndim == 5 and torch.equal(grad, grad[:1].expand_as(grad))
    return int((grad[:1] if single else grad).count_nonzero())


def test_extraction_owns_its_weights(space, supernet):
    network = supernet.extract(largest(space))
    before = supernet.digest()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.0)
    assert supernet.digest() == before


def test_running_one_architecture_leaves_no_trace(space, supernet):
    supernet.eval()
    first, *others = _architectures(space, 6)
    x = torch.randn(3, 2, 12, 12)
    with torch.no_grad():
        before = supernet(first, x)
        for architecture in others:
            supernet(architecture, x)
        after = supernet(first, x)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_weights_depend_on_the_seed_alone(space):
    torch.manual_seed(3)
    first = staged_supernet(space, channels=2, classes=5, seed=1).digest()
    torch.manual_seed(4)
    assert staged_supernet(space, channels=2, classes=5, seed=1).digest() == first
    assert staged_supernet(space, channels=2, classes=5, seed=2).digest() != first


def test_separate_experts_share_nothing_between_op_types(space):
    def weights(experts):
        net = staged_supernet(space, channels=2, classes=5, experts=experts)
        return {name for name, _ in net.named_parameters() if name.startswith("slots.stage1__0.")}

    assert not any("static" in name for name in weights("shared"))
    assert {"static", "condconv", "dyconv", "dynet"} <= {
        part for name in weights("separate") for part in name.split("/")
    }


def test_static_is_the_mean_of_the_bank(space):
    """The static weights of a layer are the experts' mean, for the widths and kernels that both have."""
    supernet = staged_supernet(space, channels=2, classes=5, seed=1)
    values = {name: value for name, value in largest(space).items() if name != "stage1.0.group"}
    values |= {"stage1.0.block": "conv", "stage1.0.op": "static"}
    static = supernet.extract(space.architecture(values))
    values |= {"stage1.0.op": "condconv", "stage1.0.experts": 4}
    dynamic = supernet.extract(space.architecture(values))
    ours, bank = (_bank(net) for net in (static, dynamic))
    torch.testing.assert_close(ours, bank.mean(0))


def _bank(network):
    parameters = dict(network.slots["stage1__0"].named_parameters())
    (name,) = (name for name, parameter in parameters.items() if parameter.ndim >= 4)
    return parameters[name]


def test_a_context_reaches_layers_inside_of_blocks(space):
    """The temperature of a supernet's routers is that of an extracted network's."""
    supernet = staged_supernet(space, channels=2, classes=5)
    values = dict(largest(space)) | {"stage1.0.op": "dyconv", "stage1.0.experts": 4}
    architecture = space.architecture(values)
    network, x = supernet.extract(architecture).train(), torch.randn(4, 2, 12, 12)
    context = Context(RouterMode(temperature=1000.0))

    def run(call):
        torch.manual_seed(0)  # of the head's dropout
        return call()[-1]

    with torch.no_grad():
        flat = run(lambda: supernet.train()(architecture, x, context=context))
        plain = run(lambda: supernet(architecture, x))
        assert not torch.allclose(flat, plain)
        with supplied(network, context):
            assert torch.equal(run(lambda: network.logits(x)), flat)
        assert torch.equal(run(lambda: network.logits(x)), plain)


def test_images_are_resized_to_the_resolution_of_the_architecture(space, supernet):
    values = dict(smallest(space))
    small, large = (space.architecture(values | {"resolution": r}) for r in (8, 12))
    x = torch.randn(2, 2, 12, 12)
    with torch.no_grad():
        assert not torch.allclose(supernet(small, x)[-1], supernet(large, x)[-1])
