"""A module of any class that runs each image at a resolution of its own."""

import pytest
import torch
from numpy.testing import assert_allclose
from support.contexts import executed
from support.networks import one_by_one
from support.own_branches import conv, leave
from support.profiled import convolutions_run
from torch import nn
from torch.testing import assert_close

from dynnas.errors import SpaceError
from dynnas.nn import DynamicResolution
from dynnas.nn.context import tracing
from dynnas.nn.gates.gate import Decision
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.trainer import Trainer

SHAPE, SIZES = (3, 16, 16), (8, 12, 16)


def images(count, seed=0):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Sized(nn.Module):
    """Images (B, 3, 16, 16) to logits (B, 5), times a scale behind what is chosen."""

    def __init__(self, width=8, sizes=SIZES, target=0.5):
        super().__init__()
        inner = nn.Sequential(conv(3, width), conv(width, width, 2), leave(width, 5))
        self.sized = DynamicResolution(inner, 3, sizes, target)
        self.scale = nn.Parameter(torch.full((5,), 2.0))

    def forward(self, x):
        return self.sized(x) * self.scale


@torch.no_grad()
def undecided(network):
    """In eval mode with statistics of images, of several minds."""
    look = network.sized.gate[0]
    for step in range(10):
        network.train()(images(64, step))
    network.eval()
    features = look[-1]
    features.expand.weight.mul_(5)
    features.expand.bias.sub_(look(images(64)).median(0).values)
    return network


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PlainNetwork(undecided(Sized()), SHAPE, 5).eval()


@torch.no_grad()
def masked(network, x):
    """What images get if everything is computed, and the index of each one's size."""
    with tracing(network, Decision) as trace:
        outputs = network(x)
    (decision,) = trace.of(Decision)
    return outputs, decision


@torch.no_grad()
def test_each_image_gets_what_the_module_says_at_its_size(network):
    x = images(24)
    outputs, decision = masked(network, x)
    chosen = decision.choice.int().argmax(1)
    assert {*chosen.tolist()} == {0, 1, 2}
    sized = network.module.sized
    members = [*sized.smaller, sized.block]
    for image, size, output in zip(x, chosen, outputs, strict=True):
        expected = members[size](resize(image[None], SIZES[size])) * network.module.scale
        assert_close(output[None], expected, rtol=1e-4, atol=1e-4)
    real = executed(network, "real")
    assert_close(real(x), outputs, rtol=1e-4, atol=1e-4)
    assert_close(torch.cat([real(image[None]) for image in x]), outputs, rtol=1e-4, atol=1e-4)
    assert_close(fold_batchnorm(network)(x), outputs, rtol=1e-4, atol=1e-4)


def test_graphs_answer_as_the_masked_network_and_have_branches(network, tmp_path):
    x = images(16)
    outputs, decision = masked(network, x)
    model = to_onnx(network)
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    assert_allclose(one_by_one(runner, x), outputs.numpy(), rtol=1e-4, atol=1e-4)
    batches = OnnxRunner(to_onnx_batch(network).SerializeToString(), threads=1)
    assert_allclose(batches(x.numpy()), outputs.numpy(), rtol=1e-4, atol=1e-4)
    # Two of the predictor, and two of the size that is chosen.
    first = {int(size): at for at, size in reversed(list(enumerate(decision.choice.int().argmax(1))))}
    assert {convolutions_run(model, x[at, None].numpy(), tmp_path) for at in first.values()} == {4}


@torch.no_grad()
def test_costs_are_those_of_the_chosen_sizes(network):
    x = images(16)
    _, decision = masked(network, x)
    size = cost_of(network)
    used = GateUse.of(size, torch.zeros(16, dtype=torch.int64), [decision])
    sized = network.module.sized
    look = count_macs(sized.gate[0], x[:1])[1]
    each = [count_macs(sized.block, resize(x[:1], side))[1] for side in SIZES]
    resizes = [count_macs(layer, x[:1])[1] for layer in sized.resizes] + [0]
    expected = [look + each[at] + resizes[at] for at in decision.choice.int().argmax(1)]
    assert list(used.image_macs) == pytest.approx(expected, rel=0.02)
    assert len({*used.image_macs}) == 3
    assert set(next(iter(used.shares.values()))) == {"8", "12", "16"}


def test_weights_are_kept_once_and_statistics_for_each_size(network):
    names = network.state_dict().keys()
    assert "module.sized.block.0.0.weight" in names
    assert not any("smaller" in name and name.endswith("0.0.weight") for name in names)
    sized = network.module.sized
    assert sized.smaller[0][0][0].weight is sized.block[0][0].weight
    assert not torch.equal(sized.smaller[0][0][1].running_var, sized.block[0][1].running_var)
    again = Sized()
    again.load_state_dict(network.module.state_dict())
    assert torch.equal(again.eval()(images(4)), network.module(images(4)))


def test_extracted_networks_compute_what_slices_do():
    space = Space.of(Sized, width=[4, 8], sizes=[(8, 16), SIZES])
    supernet = Supernet(space).train()
    for values in ({"width": 4, "sizes": (8, 16)}, {"width": 8, "sizes": SIZES}):
        member = supernet.extract(values)
        torch.manual_seed(1)
        found = supernet(values, images(6))
        torch.manual_seed(1)
        assert torch.equal(found, member(images(6)))
        found.sum().backward()
        calibrated = calibrate(PlainNetwork(member, SHAPE, 5), images(32)).eval()
        plain = Sized(**values)
        plain.load_state_dict(calibrated.module.state_dict())
        assert torch.equal(plain.eval()(images(6)), calibrated(images(6)))


def test_a_training_keeps_to_the_target():
    torch.manual_seed(0)
    module = Sized(target=0.35)
    targets = torch.arange(32) % 5
    batches = [(images(32, step), targets) for step in range(4)]
    trainer = Trainer(
        module,
        Classification(5),
        batches,
        algorithms=["gate_learning", "gate_budget"],
        optimizer=torch.optim.SGD(module.parameters(), 0.05),
        epochs=2,
    )
    before = [each.detach().clone() for each in module.sized.gate.parameters()]
    trainer.fit()
    assert all(
        not torch.equal(one, other) for one, other in zip(before, module.sized.gate.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("sizes", "target", "message"),
    [
        ((16,), 0.5, r"DynamicResolution: sizes are \(16,\); allowed: two or more, each at least 1 pixel"),
        ((0, 16), 0.5, "allowed: two or more"),
        ((8, 16), 0.0, "DynamicResolution: target is 0.0; allowed: above 0, at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(sizes, target, message):
    with pytest.raises(SpaceError, match=message):
        DynamicResolution(nn.Flatten(), 3, sizes, target)


def test_images_of_another_size_are_refused():
    with pytest.raises(SpaceError, match="found images of 12 x 12 pixels, and the largest of sizes is 16"):
        Sized()(images(2)[..., :12, :12])
