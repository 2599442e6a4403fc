"""A trained network as a space: the largest member is the network, and smaller ones are slices of it."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from support.trained import FAMILIES, Residual, TinyResNet, TinyViT, conv, trained
from torch import nn
from torch.nn import functional as F

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.latency.runner import build_runner
from dynnas.nn import Conv2d
from dynnas.nn.kernels.kernel import Kernel
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import largest, sample, smallest

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request):
    network = trained(request.param)
    return network, dn.elastic(network, IMAGES)


def members(space, count=6):
    rng = random.Random(1)
    return dict.fromkeys([smallest(space), *(sample(space, rng) for _ in range(count))])


def test_the_largest_member_is_the_network_bit_for_bit(case):
    network, space = case
    expected = network(IMAGES)
    assert torch.equal(space.build(largest(space))(IMAGES), expected)
    shared = dn.Supernet(space, seed=7)
    assert torch.equal(shared.extract(largest(space)).eval()(IMAGES), expected)
    assert {name for name, _ in network.named_parameters()} == {
        name.removeprefix("slots.network.").replace("/", ".") for name, _ in shared.named_parameters()
    }


def test_members_on_shared_weights_compute_what_is_extracted(case):
    network, space = case
    supernet = dn.Supernet(space).train()
    for architecture in members(space):
        member = supernet.extract(architecture)
        assert type(member) is type(network)
        member.train()
        assert torch.equal(supernet(architecture, IMAGES), member(IMAGES))
        loaded = space.build(architecture)
        loaded.load_state_dict(member.state_dict())


def test_members_are_ordinary_modules_with_the_trained_weights(case):
    network, space = case
    whole = network.state_dict()
    for architecture in members(space, 3):
        member = space.build(architecture)
        text = pickle.dumps(member)
        assert b"dynnas" not in text
        again = pickle.loads(text)
        assert torch.equal(again(IMAGES), member(IMAGES))
        for name, tensor in member.state_dict().items():
            assert set(tensor.flatten().tolist()) <= set(whole[name].flatten().tolist())
    runner = build_runner(PlainNetwork(member, (3, 16, 16), 5), TargetSettings())
    found = runner(IMAGES[:1].numpy())
    np.testing.assert_allclose(found, member(IMAGES[:1]).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_layers_say_the_sizes_that_they_have(case):
    _, space = case
    for architecture in members(space, 3):
        for module in space.build(architecture).modules():
            if isinstance(module, nn.Conv2d):
                shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
                assert tuple(module.weight.shape) == shape
            elif isinstance(module, nn.Linear):
                assert tuple(module.weight.shape) == (module.out_features, module.in_features)
            elif isinstance(module, nn.BatchNorm2d):
                assert len(module.running_mean) == len(module.weight) == module.num_features


def without(network, kept, weights):
    """The same network with channels silenced: what reads them reads nothing."""
    silenced = copy.deepcopy(network)
    for name, axis in weights.items():
        parameter = silenced.get_parameter(name)
        gone = [at for at in range(parameter.shape[axis]) if at not in kept]
        parameter.data.index_fill_(axis, torch.tensor(gone), 0.0)
    return silenced


def test_leaving_channels_out_is_reading_nothing_of_them():
    """The witness is the whole network, whose next layer has zeros where channels are left out."""
    network = trained("resnet")
    space = dn.elastic(network, IMAGES)
    name = "stage1.1.conv1.0.width"
    member = space.build({**largest(space), name: 8})
    kept = [
        at
        for at in range(16)
        if any(
            torch.equal(network.stage1[1].conv1[0].weight[at], each)
            for each in member.stage1[1].conv1[0].weight
        )
    ]
    assert len(kept) == 8
    silenced = without(network, kept, {"stage1.1.conv2.0.weight": 1})
    torch.testing.assert_close(member(IMAGES), silenced(IMAGES))


def test_the_channels_that_matter_most_stay():
    network = trained("resnet")
    weak = torch.tensor([0, 3, 4, 5, 9, 10, 12, 15])
    network.stage1[1].conv1[0].weight.data[weak] *= 1e-3
    network.stage1[1].conv1[1].weight.data[weak] *= 1e-3
    space = dn.elastic(network, IMAGES)
    member = space.build({**largest(space), "stage1.1.conv1.0.width": 8})
    strong = [at for at in range(16) if at not in weak]
    assert torch.equal(member.stage1[1].conv1[0].weight, network.stage1[1].conv1[0].weight[strong])


def test_choices_of_a_residual_network():
    space = dn.elastic(trained("resnet"), IMAGES, width=(0.5,), depth=0.3)
    assert space.model.report.choices == {
        "stage1.depth": (1, 2, 3),
        "stage2.depth": (0, 1),
        "stem.0.width": (8, 16),
        "stage1.0.conv1.0.width": (8, 16),
        "stage1.1.conv1.0.width": (8, 16),
        "stage1.2.conv1.0.width": (8, 16),
        "stage2.0.conv1.0.width": (16, 32),
        "stage2.0.conv2.0.width": (16, 32),
        "stage2.1.conv1.0.width": (16, 32),
        "stem.0.kernel": (3, 5),
    }
    assert space.gene("stage1.2.conv1.0.width").condition == (("stage1.depth", (3,)),)
    assert space.model.report.left_out == {"fc": "is the network's output"}
    member = space.build({**largest(space), "stage1.depth": 1, "stem.0.kernel": 3})
    assert isinstance(member.stage1[1], nn.Identity)
    assert member.stem[0].kernel_size == (3, 3)
    assert member.stem[0].padding == (1, 1)


def test_attention_gets_narrower_heads_and_its_numbers_follow():
    space = dn.elastic(trained("vit"), IMAGES)
    member = space.build(smallest(space))
    attention = member.blocks[0].attention
    assert (attention.heads, attention.head_dim, attention.inner) == (2, 4, 8)
    assert tuple(attention.qkv.weight.shape) == (24, 8)
    assert member.blocks[0].norm1.normalized_shape == (8,)
    assert tuple(member.positions.shape) == (1, 17, 8)


def test_groups_of_convolutions_go_as_a_whole_or_get_narrower():
    member = (space := dn.elastic(trained("grouped"), IMAGES)).build(smallest(space))
    many, few = member.many[0], member.few[0]
    assert (many.groups, tuple(many.weight.shape)) == (4, (16, 4, 3, 3))
    assert (few.groups, few.in_channels) == (2, 16)


def test_what_is_excluded_stays():
    space = dn.elastic(trained("resnet"), IMAGES, exclude=["stage1*", "stem"])
    assert not [gene.name for gene in space.genes if gene.name.startswith(("stage1", "stem"))]
    assert space.model.report.left_out["stem.0"] == "is excluded"


def test_a_pattern_that_excludes_nothing_is_named():
    with pytest.raises(
        SpaceError, match=r"exclude has 'stage9\.\*', which fits no module or tensor of TinyRes"
    ):
        dn.elastic(trained("resnet"), IMAGES, exclude=["stage1.*", "stage9.*"])


def test_parameters_that_share_memory_are_refused():
    network = trained("resnet")
    network.twin = nn.Parameter(network.fc.weight.data)
    with pytest.raises(SpaceError, match=r"TinyResNet: the parameters twin and fc.weight are two that share"):
        dn.elastic(network, IMAGES)


def test_another_head():
    network = trained("resnet")
    space = dn.elastic(network, IMAGES, classes=7)
    replaced = space.build(largest(space))
    assert replaced(IMAGES).shape == (4, 7)
    for name, tensor in replaced.state_dict().items():
        if not name.startswith("fc"):
            assert torch.equal(tensor, network.state_dict()[name])
    assert not space.model.teaches


def test_the_size_of_images_is_a_choice():
    space = dn.elastic(trained("resnet"), IMAGES, resolution=(8, 12))
    assert space.gene("input.resolution").values == (8, 12, 16)
    architecture = space.architecture({**largest(space), "input.resolution": 8})
    assert space.image_shape(architecture, (3, 16, 16)) == (3, 8, 8)
    supernet = dn.Supernet(space)
    small = F.interpolate(IMAGES, (8, 8), mode="bilinear", antialias=True)
    assert torch.equal(supernet(architecture, IMAGES), supernet(architecture, small))


def test_images_that_are_no_squares_have_sizes_of_their_own():
    network, images = Detector().eval(), torch.randn(2, 3, 24, 32)
    space = dn.elastic(network, images, resolution=[(12, 16), np.array([18, 24]), np.int64(16)], divisor=2)
    gene = space.gene("input.resolution")
    assert gene.values == ((12, 16), 16, (18, 24), (24, 32))
    assert torch.equal(space.build(largest(space))(images), network(images))
    architecture = space.architecture({**largest(space), "input.resolution": [12, 16]})
    assert space.image_shape(architecture, (3, 24, 32)) == (3, 12, 16)
    small = F.interpolate(images, (12, 16), mode="bilinear", antialias=True)
    ours = space.of_data((3, 24, 32), dn.tasks.Detection(3))
    assert torch.equal(ours.build(architecture)(small), network(small) * torch.tensor([2.0, 2, 2, 2, 1, 1]))
    supernet = dn.Supernet(ours).train()
    assert torch.equal(supernet.extract(architecture)(small), supernet(architecture, images))


def test_maps_may_be_smaller_where_images_are():
    network, images = nn.Sequential(conv(3, 16), nn.Conv2d(16, 4, 1)).eval(), torch.randn(2, 3, 24, 32)
    space = dn.elastic(network, images, resolution=[(12, 16)])
    architecture = space.architecture({**largest(space), "input.resolution": (12, 16)})
    supernet = dn.Supernet(space.of_data((3, 24, 32), dn.tasks.Segmentation(4)))
    assert supernet(architecture, images).shape == (2, 4, 12, 16)
    tokens = nn.Sequential(conv(3, 16), conv(16, 8), nn.Flatten(2)).eval()  # as many as places
    assert "input.resolution" in dn.elastic(tokens, images, resolution=[(12, 16)]).model.report.left_out


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = dn.tasks.DetectionHead([8], [2], 3, width=8, detections=dn.tasks.Detections(most=10))

    def forward(self, x):
        return self.head(self.body(x))


def test_detectors_that_look_at_smaller_images_give_boxes_in_pixels_of_the_data():
    network, task = Detector().eval(), dn.tasks.Detection(3)
    space = dn.elastic(network, IMAGES, resolution=(8,), divisor=2).of_data((3, 32, 48), task)
    assert space.digest == dn.elastic(network, IMAGES, resolution=(8,), divisor=2).digest
    images = torch.randn(2, 3, 32, 48)
    for side in (8, 16):
        architecture = space.architecture({**largest(space), "input.resolution": side})
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        x, y = 48 / side, 32 / side
        built = space.build(architecture)
        assert torch.equal(built(small), network(small) * torch.tensor([x, y, x, y, 1, 1]))
        supernet = dn.Supernet(space).train()
        output = supernet(architecture, images)
        extracted = supernet.extract(architecture)
        assert torch.equal(extracted(small), output)
        own = extracted.network(small)
        stretched = torch.tensor([x, y, x, y, x, y, max(x, y), 1, 1, 1])
        assert torch.allclose(output, own * stretched)
        built.load_state_dict(extracted.state_dict())
    assert space.model.outputs is None  # boxes by image, not numbers: the task is not asked for as many
    assert type(space.build({**largest(space)}).network) is Detector
    assert isinstance(dn.elastic(network, IMAGES, divisor=2).of_data((3, 16, 16), task).build({}), Detector)


def test_a_size_that_the_network_refuses_is_left_out():
    space = dn.elastic(trained("vit"), IMAGES, resolution=(8,))
    assert "input.resolution" not in [gene.name for gene in space.genes]
    assert "fails with fewer" in space.model.report.left_out["input.resolution"]


class Tied(nn.Module):
    """One convolution called twice, and one weight under two names."""

    def __init__(self):
        super().__init__()
        self.stem, self.again = conv(3, 16), conv(16, 16)
        self.inward, self.outward = nn.Linear(16, 32, bias=False), nn.Linear(16, 32, bias=False)
        self.outward.weight = self.inward.weight
        self.fc = nn.Linear(32, 5)

    def forward(self, x):
        x = self.again(self.again(self.stem(x))).mean((2, 3))
        return self.fc(self.inward(x) + self.outward(x))


def test_shared_parameters_stay_shared():
    network = trained(Tied)
    space = dn.elastic(network, IMAGES)
    assert torch.equal(space.build(largest(space))(IMAGES), network(IMAGES))
    member = space.build(smallest(space))
    assert member.inward.weight is member.outward.weight
    assert member.again[0].in_channels == member.again[0].out_channels == 8
    supernet = dn.Supernet(space).train()
    extracted = supernet.extract(smallest(space)).train()
    assert torch.equal(supernet(smallest(space), IMAGES), extracted(IMAGES))


class Depends(TinyResNet):
    def forward(self, x):
        x = self.stem(x)
        if x.mean() > 0:
            x = self.stage1(x)
        return self.fc(self.stage2(x).mean((2, 3)))


class Draws(TinyResNet):
    def forward(self, x):
        return super().forward(x + torch.rand_like(x))


class Holds(TinyResNet):
    def __init__(self):
        super().__init__()
        self.results = (each for each in range(3))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Depends, "the network: the forward pass depends on the values of its input"),
        (Draws, "Draws: gives another output each time it is run on the same input in eval mode"),
        (Holds, "Holds cannot be copied"),
        (lambda: nn.Linear(16, 5), "Linear: nothing of it can be made elastic: .* is the network's output"),
        (lambda: nn.Conv2d(5, 5, 3), r"the forward pass failed on inputs of \(4, 3, 16, 16\): RuntimeError"),
        (lambda: torch.jit.script(conv(3, 16)), "a scripted module has no layers to change"),
        (lambda: nn.Sequential(nn.LazyLinear(5)), "has parameters without a shape"),
        (lambda: "resnet", "elastic: found str; give a torch.nn.Module"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_made_elastic_is_one_message(network, message):
    with pytest.raises(SpaceError, match=message):
        dn.elastic(network(), IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": (0,)}, "width is"),
        ({"depth": 2}, "depth is 2"),
        ({"divisor": 0}, "divisor is 0"),
        ({"resolution": (32,)}, "resolution has 32, more than the 16 x 16 of the example inputs"),
        ({"resolution": [(8, 20)]}, r"resolution has \(8, 20\), more than the 16 x 16"),
        ({"resolution": (0,)}, r"resolution has 0; allowed are pairs \(height, width\) and sides"),
        ({"resolution": [(8, 8, 3)]}, r"resolution has \(8, 8, 3\); allowed"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(SpaceError, match=message):
        dn.elastic(trained("resnet"), IMAGES, **options)


def test_blocks_that_lose_their_input_stay():
    """A run of layers that only keep their shape is no run of residual blocks."""
    network = nn.Sequential(conv(3, 16), *(conv(16, 16) for _ in range(3)), nn.Flatten(), nn.Linear(4096, 5))
    space = dn.elastic(network.eval(), IMAGES)
    assert [gene.name for gene in space.genes if gene.name.endswith("depth")] == []
    assert torch.equal(space.build(largest(space))(IMAGES), network(IMAGES))
    assert space.build(smallest(space))[-1].in_features == 8 * 256


def test_equal_networks_have_equal_digests():
    space = dn.elastic(trained("vit"), IMAGES)
    assert space.digest == dn.elastic(trained("vit"), IMAGES).digest
    assert space.digest != dn.elastic(trained(TinyViT, seed=1), IMAGES).digest


def test_the_report_is_readable():
    text = str(dn.elastic(trained("resnet"), IMAGES).model.report)
    assert "TinyResNet: " in text
    assert "  stage1.depth: 2, 3" in text
    assert "not elastic:\n  fc: is the network's output" in text
    assert isinstance(trained("resnet").stage1[0], Residual)


def routers(layer):
    return [each for name, each in layer.named_parameters() if "router" in name]


@pytest.mark.parametrize("op", ["condconv", "dyconv"])
@pytest.mark.parametrize("family", ["resnet", "mobilenet", "grouped"])
def test_dynamic_kernels_begin_as_the_trained_ones(family, op):
    network = trained(family)
    space = dn.elastic(network, IMAGES, ops=(op,))
    whole = largest(space)
    assert torch.equal(space.build(whole)(IMAGES), network(IMAGES))
    chosen = {gene.name: op for gene in space.genes if gene.name.endswith(".op")}
    assert all(space.gene(name).values == (op, "static") for name in chosen)
    dynamic = space.build({**whole, **chosen})
    torch.testing.assert_close(dynamic(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-5)
    layers = [module for module in dynamic.modules() if isinstance(module, Conv2d)]
    assert len(layers) == len(chosen) > 0
    dynamic(IMAGES).square().sum().backward()
    for layer in layers:
        assert float(layer.conv.weight.detach().std(0).min()) > 0
        routed = max(float(each.grad.abs().max()) for each in routers(layer))
        assert routed > 0  # so that images come to differ


def test_members_with_dynamic_kernels_on_shared_weights():
    space = dn.elastic(trained("mobilenet"), IMAGES, ops=("condconv", "dyconv"), experts=2)
    supernet = dn.Supernet(space).train()
    for architecture in members(space):
        member = supernet.extract(architecture)
        assert torch.equal(supernet(architecture, IMAGES), member(IMAGES))
    banks = [module.weight for module in member.modules() if isinstance(module, Kernel)]
    assert all(len(bank) == 2 for bank in banks)


def test_an_op_that_cannot_begin_as_a_kernel_is_refused():
    with pytest.raises(SpaceError, match="op 'deformable'; allowed are condconv, dyconv"):
        dn.elastic(trained("resnet"), IMAGES, ops=("deformable",))


class Remembers(nn.Module):
    """Keeps what it has computed for evaluation, as biases of attention do in timm."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Sequential(conv(3, 16), conv(16, 16)), nn.Linear(16, 5)
        self.table = nn.Parameter(torch.randn(1, 64))
        self.register_buffer("numbers", torch.arange(16) * 4)
        self.kept = {}

    def train(self, mode=True):
        self.kept = {} if mode else self.kept
        return super().train(mode)

    def forward(self, x):
        if "bias" not in self.kept:
            self.kept["bias"] = self.table[:, self.numbers]
        return self.fc(self.stem(x).mean((2, 3)) + self.kept["bias"])


def test_what_a_module_keeps_from_a_run_is_not_taken_for_a_weight():
    network = trained(Remembers)
    with torch.no_grad():
        expected = network(IMAGES)
    space = dn.elastic(network, IMAGES)
    assert not [gene for gene in space.genes if gene.name.startswith("table")]
    assert torch.equal(space.build(largest(space))(IMAGES), expected)
    member = space.build(smallest(space))
    assert member.kept == {}
    assert member.table.shape == (1, 64)
