"""Gates and exits beside a trained network: with them it begins to compute what it did."""

import pickle
import random

import pytest
import torch
from support.trained import TinyResNet, conv, trained
from torch import nn
from torch.nn import functional as F

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.nn import EarlyExits, Skippable
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.report.tables.table import dynamic_layers, exits, is_dynamic
from dynnas.space.moves import largest, sample, smallest
from dynnas.study.static_part import static_part

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    return trained("resnet")


@pytest.fixture(scope="module")
def space(network):
    return dn.elastic(
        network, IMAGES, width=(0.5,), gates=(0.5, 0.8), exits=("stage1", "stage2.0"), thresholds=(0.6,)
    )


def with_all(space):
    """The whole network with all its gates and exits."""
    beside = {gene.name: "skip 0.5" for gene in space.genes if gene.name.endswith(".gate")}
    beside |= {"exits.at": "stage1+stage2.0", "exits.threshold": 0.6}
    return space.architecture({**largest(space), **beside})


def test_what_stands_beside_is_a_choice(space):
    assert space.gene("stage1.1.gate").values == ("skip 0.5", "skip 0.8", "none")
    assert space.gene("exits.at").values == ("stage1", "stage2.0", "stage1+stage2.0", "none")
    early = ("stage1", "stage2.0", "stage1+stage2.0")
    assert space.gene("exits.threshold").condition == (("exits.at", early),)
    assert largest(space)["exits.at"] == "none"
    assert type(space.build(largest(space))) is TinyResNet


def test_open_gates_and_unsure_exits_change_nothing(network, space):
    expected = network(IMAGES)
    assert torch.equal(space.build(largest(space))(IMAGES), expected)
    everything = with_all(space)
    member = space.build(everything)
    assert isinstance(member, EarlyExits)
    assert len([each for each in member.modules() if isinstance(each, Skippable)]) == 4
    with tracing(member) as trace:
        assert torch.equal(member(IMAGES), expected)
    assert trace.of(Left)[0].taken.tolist() == [2] * 4
    assert torch.equal(dn.Supernet(space).extract(everything).eval()(IMAGES), expected)


def test_members_on_shared_weights_compute_what_is_extracted(space):
    supernet = dn.Supernet(space).train()
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # gates and exits that have learned something
    rng = random.Random(0)
    for architecture in (with_all(space), smallest(space), *(sample(space, rng) for _ in range(2))):
        member = supernet.extract(architecture).train()
        found, expected = [
            (torch.manual_seed(0), each(IMAGES))[1]
            for each in (lambda images: supernet(architecture, images), member)  # noqa: B023
        ]
        found, expected = ([each] if isinstance(each, torch.Tensor) else each for each in (found, expected))
        assert all(map(torch.equal, found, expected))
        space.build(architecture).load_state_dict(member.state_dict())
    assert torch.equal(pickle.loads(pickle.dumps(member.eval()))(IMAGES), member(IMAGES))


def test_gates_and_exits_read_the_channels_that_stay(space):
    member = space.build({**with_all(space), "stem.0.width": 8})
    assert member.exits["0"][2].in_features == 8
    assert member.stages[0].stage1[0].gate.skip.reduce.conv.weight.shape[1] == 8
    assert member.exits["1"][2].in_features == 32


def test_a_block_that_is_left_out_has_no_gate(space):
    assert space.gene("stage1.2.gate").condition == (("stage1.depth", (3,)),)


class Around(TinyResNet):
    def forward(self, x):
        first = self.stem(x)
        x = self.stage2(self.stage1(first))
        return self.fc(x.mean((2, 3)) + F.pad(first.mean((2, 3)), (0, 16)))


class Dropped(TinyResNet):
    def forward(self, x):
        x = self.stage2(self.stage1(self.stem(x))).mean((2, 3))
        return self.fc(F.dropout(x, 0.5, self.training))


@pytest.mark.parametrize(
    ("network", "exits", "reason"),
    [
        (Around, "stage1", "stage1: stem is used behind it as well"),
        (Dropped, "stage1", "the forward pass outside of its modules is another one in training"),
        (TinyResNet, "stage1.1", "stage1.1 may be left out itself; exclude it, or name what stands around"),
        (TinyResNet, "fc", "fc does not give one map"),
        (lambda: nn.Sequential(conv(3, 16), conv(16, 5)), "0", "does not give one output"),
    ],
)
def test_why_there_are_no_exits(network, exits, reason):
    report = dn.elastic(trained(network), IMAGES, exits=exits).model.report
    assert reason in report.left_out["exits"]
    assert "exits.at" not in report.choices


def test_why_there_are_no_gates():
    plain = nn.Sequential(conv(3, 16), nn.Flatten(), nn.Linear(16 * 256, 5))
    report = dn.elastic(trained(lambda: plain), IMAGES, gates=(0.5,)).model.report
    assert report.left_out["gates"] == "no block gives what it gets, plus something, so none may be skipped"
    report = dn.elastic(trained("vit"), IMAGES, gates=(0.5,)).model.report
    assert report.left_out["blocks.0.gate"] == "gates read maps (B, C, H, W), and the block gets 3 axes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gates": (1.0,)}, r"gates is \[1.0\]; allowed are numbers between 0 and 1"),
        ({"exits": "stage9"}, "exits names 'stage9', which TinyResNet does not have.*stage"),
        ({"exits": "stage1", "thresholds": ()}, "thresholds is empty"),
    ],
)
def test_wrong_options_are_named(network, options, message):
    with pytest.raises(SpaceError, match=message):
        dn.elastic(network, IMAGES, **options)


def test_plain_blocks_may_be_left_out_if_that_is_asked_for():
    """Blocks without a residual: their channels are one, and what comes in goes out."""
    network = trained(
        lambda: nn.Sequential(
            conv(3, 16), nn.Sequential(*(conv(16, 16) for _ in range(3))), nn.Flatten(), nn.Linear(4096, 5)
        )
    )
    report = dn.elastic(network, IMAGES).model.report
    assert "1.depth" not in report.choices
    assert report.left_out["1.depth"].startswith("1.0, 1.1, 1.2: nothing adds the input to the output")
    space = dn.elastic(network, IMAGES, plain_depth=True)
    assert space.gene("1.depth").values == (2, 3)
    assert [gene.name for gene in space.genes if gene.name.endswith("width")] == ["0.0.width"]
    assert torch.equal(space.build(largest(space))(IMAGES), network(IMAGES))
    x = network[1][1](network[1][0](network[0](IMAGES)))
    assert torch.equal(space.build({"1.depth": 2})(IMAGES), network[3](network[2](x)))


def test_reports_know_what_is_dynamic_and_controls_what_is_static(space):
    whole = largest(space)
    assert not is_dynamic(whole)
    chosen = with_all(space)
    assert dynamic_layers(chosen) == "4 skip 0.5"
    assert exits(chosen) == "stage1 at 0.6, stage2.0 at 0.6"
    static = static_part(space)
    assert static is not None
    assert all(not is_dynamic(each) for each in (smallest(static), largest(static)))
    assert torch.equal(static.build(largest(static))(IMAGES), space.build(whole)(IMAGES))
    plain = dn.elastic(trained("resnet"), IMAGES)
    assert static_part(plain) is None
    assert not is_dynamic(smallest(plain), plain)
    mixed = dn.nn.Conv2d(16, 16, 3, op="condconv", experts=2)
    own = dn.elastic(nn.Sequential(conv(3, 16), mixed, conv(16, 16), nn.Conv2d(16, 5, 3)), IMAGES)
    assert is_dynamic(smallest(own), own)  # the network was dynamic before
