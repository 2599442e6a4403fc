"""Networks that know nothing of supernets: what runs on shared weights is exactly what is extracted."""

import random
from functools import partial
from typing import ClassVar

import pytest
import torch
from support.own_networks import ConvNet, Sequence, UNet, ViT
from torch import nn

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.nn.slicing import centre, groups, leading, mean
from dynnas.space.moves import enumerate_all, largest, sample, smallest

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(0))
CASES = {
    "convnet": (
        dn.Space.of(
            ConvNet,
            depth=[1, 2, 3],
            width=[4, 6, 8],
            kernel=[1, 3, 5],
            bias=[False, True],
            activation=["relu", "silu", "prelu"],
            squeeze=[None, 2, 4],
        ),
        IMAGES,
    ),
    "vit": (
        dn.Space.of(ViT, dim=[16, 24, 32], depth=[1, 2, 3], heads=[1, 2, 4, 8], mlp_ratio=[1, 1.5, 2]),
        IMAGES,
    ),
    "unet": (dn.Space.of(UNet, width=range(4, 9), depth=[1, 2, 3], growth=[1.0, 1.5, 2.0]), IMAGES),
    "sequence": (
        dn.Space.of(
            Sequence,
            dim=[8, 12, 16],
            heads=[1, 2, 4],
            depth=[1, 2],
            recurrent=["gru", "lstm"],
            tied=[True, False],
        ),
        TOKENS,
    ),
}


class TimmNet(nn.Module):
    """Blocks of timm, which cannot be changed: rules are declared around them."""

    elastic: ClassVar = {
        "*attn.qkv.*": groups(3, "num_heads"),
        "*attn.proj.weight": groups("num_heads", axis=1),
    }

    def __init__(self, timm, dim, heads, depth, kernel):
        super().__init__()
        vit, convnext = timm.models.vision_transformer, timm.models.convnext
        self.stem = nn.Conv2d(3, dim, 4, 4)
        self.norm = timm.layers.BatchNormAct2d(dim)
        self.local = convnext.ConvNeXtBlock(dim, kernel_size=kernel, ls_init_value=1e-2)
        self.blocks = nn.Sequential(
            *(vit.Block(dim, heads, qkv_bias=True, init_values=0.1) for _ in range(depth))
        )

    def forward(self, x):
        return self.blocks(self.local(self.norm(self.stem(x))).flatten(2).transpose(1, 2)).mean(1)


def members(space, count=12):
    rng = random.Random(1)
    return dict.fromkeys([smallest(space), largest(space), *(sample(space, rng) for _ in range(count))])


@pytest.fixture(scope="module", params=[*CASES, "timm"])
def case(request):
    if request.param == "timm":
        build = partial(TimmNet, request.getfixturevalue("timm"))
        space, x = dn.Space.of(build, dim=[8, 12, 16], heads=[2, 4], depth=[1, 2], kernel=[3, 7]), IMAGES
    else:
        space, x = CASES[request.param]
    return space, dn.Supernet(space, seed=3), x


def test_extracted_networks_compute_and_learn_exactly_what_slices_do(case):
    space, supernet, x = case
    for architecture in members(space):
        supernet.train()
        network = supernet.extract(architecture)
        supernet.zero_grad(set_to_none=True)
        ours, theirs = supernet(architecture, x), network(x)
        assert torch.equal(ours, theirs)
        towards = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
        (ours * towards).sum().backward()
        (theirs * towards).sum().backward()
        learned = sum(float(p.grad.double().sum()) for p in supernet.parameters() if p.grad is not None)
        expected = sum(float(p.grad.double().sum()) for p in network.parameters())
        assert learned == pytest.approx(expected, rel=1e-4, abs=1e-3)
        touched = sum(int(p.grad.count_nonzero()) for p in supernet.parameters() if p.grad is not None)
        assert touched == sum(int(p.grad.count_nonzero()) for p in network.parameters())


def test_what_is_extracted_loads_into_an_ordinary_network(case):
    """The class with the values, without dynnas, computes the same from the state dict."""
    space, supernet, x = case
    build = space.model
    for architecture in members(space, 4):
        network = supernet.extract(architecture).eval()
        plain = build(**architecture)
        plain.load_state_dict(network.state_dict(), strict=True)
        assert type(plain) is type(network)
        assert torch.equal(plain.eval()(x), network(x))


def test_weights_depend_on_the_seed_alone(case):
    space, supernet, _ = case
    torch.manual_seed(9)
    assert dn.Supernet(space, seed=3).digest() == supernet.digest()


def test_tied_parameters_stay_tied():
    space, x = CASES["sequence"]
    supernet = dn.Supernet(space)
    tied = next(each for each in enumerate_all(space) if each["tied"])
    network = supernet.extract(tied)
    assert network.out.weight is network.embed.weight
    supernet(tied, x).sum().backward()
    assert float(dict(supernet.named_parameters())["slots.network.embed/weight"].grad.abs().sum()) > 0


def test_each_head_keeps_its_own_part():
    """Heads of a narrow attention are leading parts of the first heads of the wide one."""
    space = dn.Space.of(ViT, dim=[16, 32], heads=[2, 4], depth=1)
    supernet = dn.Supernet(space)
    shared = dict(supernet.named_parameters())["slots.network.layers/0/attn/qkv/weight"]
    assert shared.shape == (3, 4, 16, 32)
    network = supernet.extract({"dim": 16, "heads": 2, "depth": 1})
    assert torch.equal(network.layers[0].attn.qkv.weight.reshape(3, 2, 8, 16), shared[:, :2, :8, :16])


def test_each_part_of_a_concatenation_keeps_its_own():
    supernet = dn.Supernet(dn.Space.of(UNet, width=[4, 8], depth=1))
    shared = dict(supernet.named_parameters())["slots.network.up/0/convs/0/weight"]
    found = supernet.extract({"width": 4, "depth": 1}).up[0].convs[0].weight
    assert shared.shape == (8, 16, 3, 3)
    assert torch.equal(found, torch.cat([shared[:4, :4], shared[:4, 8:12]], 1))


class Odd(nn.Module):
    """A network whose tensors are shared as only a declaration can say."""

    def __init__(self, size=3, bank=None, elastic=None, fused=4):
        super().__init__()
        if elastic is not None:
            self.elastic = elastic
        self.table = nn.Parameter(torch.zeros(1, 2, size, size))
        self.weights = nn.Parameter(torch.zeros(*([bank] if bank else []), 2, 2))
        self.to_qkv = nn.Linear(2, 3 * fused)


@pytest.mark.parametrize(
    ("choices", "rule", "message"),
    [
        (
            {"size": [3, 5]},
            {"table": centre(-2, -1)},
            r"table has shapes .* declare how it is sliced: ",
        ),
        ({"bank": [None, 4]}, {"weights": mean()}, r"weights has shapes .* mean\(\)"),
        ({"fused": [4, 8]}, {"to_qkv.*": leading}, r"to_qkv/weight has shapes .* groups\(3, \"heads\"\)"),
    ],
)
def test_what_no_rule_covers_is_named_with_the_remedy(choices, rule, message):
    with pytest.raises(SpaceError, match=message):
        dn.Supernet(dn.Space.of(Odd, **choices))
    assert dn.Supernet(dn.Space.of(lambda **values: Odd(**values, elastic=rule), **choices))


def test_layers_of_two_kinds_need_two_names():
    def normed(kind="batch"):
        return nn.Sequential(nn.BatchNorm2d(4) if kind == "batch" else nn.LayerNorm([4, 6, 6]))

    space = dn.Space.of(normed, kind=["batch", "layer"])
    with pytest.raises(
        SpaceError, match=r"0/weight has shapes .* of \w+Norm\w* and of \w+Norm\w*: .* two names"
    ):
        dn.Supernet(space)


def test_a_network_that_fails_in_a_run_is_named_by_its_values():
    class Fails(nn.Module):
        def __init__(self, width=4, kind="a"):
            super().__init__()
            self.linear, self.fails = nn.Linear(2, width), kind == "b" and width == 4

        def forward(self, x):
            if self.fails:
                raise ValueError("no such width")
            return self.linear(x)

    supernet = dn.Supernet(dn.Space.of(Fails, width=[4, 8], kind=["a", "b"]))
    assert supernet({"width": 4, "kind": "a"}, torch.randn(1, 2)).shape == (1, 4)
    with pytest.raises(
        SpaceError, match=r"Fails\(width=4, kind='b'\) cannot be run: ValueError: no such width"
    ):
        supernet({"width": 4, "kind": "b"}, torch.randn(1, 2))


def test_an_architecture_that_does_not_fit_is_named():
    class Uneven(nn.Module):
        def __init__(self, a=0, b=0):
            super().__init__()
            self.linear = nn.Linear(2, 9 if a == b == 137 else 3)

        def forward(self, x):
            return self.linear(x)

    space = dn.Space.of(Uneven, a=range(300), b=range(300))
    one = space.architecture({"a": 137, "b": 137})
    with pytest.raises(SpaceError, match=r"tensor 'linear.weight': .* in `covering`"):
        dn.Supernet(space)(one, torch.randn(1, 2))
    assert dn.Supernet(space, covering=[one])(one, torch.randn(1, 2)).shape == (1, 9)


def test_few_skeletons_are_kept():
    space = dn.Space.of(lambda width: nn.Linear(2, width), width=range(1, 400))
    supernet = dn.Supernet(space)
    for architecture in enumerate_all(space):
        supernet(architecture, torch.randn(1, 2))
    assert len(supernet.slots["network"]._skeletons) == 256


def test_a_supernet_of_a_space_without_networks_is_refused():
    from dynnas.space.gene import Gene
    from dynnas.space.space import Space

    with pytest.raises(SpaceError, match="has no function that makes a network"):
        dn.Supernet(Space("plain", (Gene("a", (1, 2)),)))
