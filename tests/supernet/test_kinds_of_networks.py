"""Networks of many kinds made elastic: each becomes a space whose largest member is it, or is refused."""

import random
from collections import namedtuple
from functools import partial

import pytest
import torch
from support.trained import conv, trained
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.space.moves import largest, sample, smallest

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SIGNALS, WORDS = IMAGES[:, :, 0], torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A network of named parts; `run` says what it does with them."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs, **named):
        return self.run(self, *inputs, **named)


def pooled(net, x):
    return net.head(x.mean(tuple(range(2, x.dim()))))


def _unet(net, x):
    first = net.first(x)
    below = net.rise(net.below(F.max_pool2d(first, 2)))
    other = F.interpolate(net.below(F.max_pool2d(first, 2)), size=x.shape[-2:], mode="bilinear")
    return net.head(net.mix(torch.cat([first, below, other], 1)))


def unet():
    parts = {"first": conv(3, 16), "below": conv(16, 32), "rise": nn.ConvTranspose2d(32, 16, 2, 2)}
    return Net(_unet, **parts, mix=conv(64, 16), head=nn.Conv2d(16, 5, 1))


def vgg():
    features = nn.Sequential(conv(3, 16), nn.MaxPool2d(4), conv(16, 32), conv(32, 32), nn.MaxPool2d(2))
    classifier = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 5))
    return nn.Sequential(features, nn.Flatten(), classifier)


def recurrent(kind, **options):
    outputs = (2 if options.get("bidirectional") else 1) * (options.get("proj_size") or 24)
    memory = kind(16, 24, batch_first=True, num_layers=2, **options)
    return Net(
        lambda net, x: net.head(net.memory(F.relu(net.conv(x)).transpose(1, 2))[0][:, -1]),
        conv=nn.Conv1d(3, 16, 5, padding=2),
        memory=memory,
        head=nn.Linear(outputs, 5),
    )


def signals():
    layers = [nn.Conv1d(3, 16, 7, 2, 3), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 32, 3)]
    return Net(lambda net, x: pooled(net, net.body(x)), body=nn.Sequential(*layers), head=nn.Linear(32, 5))


def volumes():
    layers = [nn.Conv3d(1, 16, 3), nn.BatchNorm3d(16), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(16, 16, 3)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 5))


def several():
    def run(net, image, numbers):
        y = net.stem(image).mean((2, 3)) * torch.sigmoid(net.side(numbers))
        return {"logits": net.head(y), "more": (net.more(y),)}

    parts = {"stem": conv(3, 16), "side": nn.Linear(4, 16)}
    return Net(run, **parts, head=nn.Linear(16, 5), more=nn.Linear(16, 2))


def named():
    found = namedtuple("found", "logits")
    return Net(
        lambda net, *, image: found(pooled(net, net.stem(image))), stem=conv(3, 16), head=nn.Linear(16, 5)
    )


def normed(norm):
    first, second = norm(nn.Conv2d(3, 16, 3)), norm(nn.Conv2d(16, 32, 3))
    return Net(
        lambda net, x: pooled(net, net.second(F.relu(net.first(x)))),
        first=first,
        second=second,
        head=nn.Linear(32, 5),
    )


def convolutions():
    dilated = nn.Conv2d(32, 32, 3, padding=2, dilation=2)
    risen = [nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ConvTranspose2d(16, 32, 2, 2, groups=4)]
    tail = [nn.InstanceNorm2d(32, affine=True), nn.PReLU(32), nn.Conv2d(32, 5, 1)]
    return nn.Sequential(conv(3, 32), conv(32, 32, groups=4), dilated, *risen, *tail)


def rearranged():
    def run(net, x):
        x = F.pixel_shuffle(net.up(net.stem(x)), 2)
        x = F.glu(net.gate(F.pixel_unshuffle(net.inner(x), 2)), 1)
        one, other = net.split(x).chunk(2, 1)
        first, *_ = torch.split(one * other.sigmoid(), 16, 1)
        return pooled(net, F.interpolate(first, scale_factor=0.5))

    parts = {"stem": conv(3, 16), "up": nn.Conv2d(16, 64, 1), "inner": conv(16, 16), "gate": conv(64, 64, 1)}
    return Net(run, **parts, split=conv(32, 64), head=nn.Linear(16, 5))


def attention():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return Net(
        lambda net, x: net.head(net.encoder(net.embed(x.transpose(1, 2))).mean(1)),
        embed=nn.Linear(3, 32),
        encoder=nn.TransformerEncoder(layer, 2),
        head=nn.Linear(32, 5),
    )


def buffers():
    def run(net, x):
        x = (net.first(x) + net.position).relu() * net.scale[:, None, None]
        return pooled(net, net.second(x))

    net = Net(run, first=nn.Conv2d(3, 16, 3), second=nn.Conv2d(16, 32, 3), head=nn.Linear(32, 5))
    net.register_buffer("position", torch.randn(1, 16, 1, 1))
    net.register_buffer("scale", torch.rand(16), persistent=False)
    return net


def spectral():
    normed, last = nn.Conv2d(3, 16, 3), nn.Conv2d(32, 5, 3)
    for layer in (normed, last):
        nn.utils.parametrizations.spectral_norm(layer)
    return nn.Sequential(normed, nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), last)


def decoder():
    layer = nn.TransformerDecoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def run(net, x):
        x = net.embed(x.transpose(1, 2))
        return net.head(net.decoder(x, x.flip(1)).mean(1))

    return Net(run, embed=nn.Linear(3, 32), decoder=nn.TransformerDecoder(layer, 3), head=nn.Linear(32, 5))


def words():
    return nn.Sequential(
        nn.Embedding(50, 32), nn.Linear(32, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 5)
    )


def functions():
    weights = {"weight": nn.Parameter(torch.randn(16, 3, 3, 3)), "mix": nn.Parameter(torch.randn(16, 32))}
    return Net(
        lambda net, x: net.head(torch.einsum("bchw,cd->bd", F.conv2d(x, net.weight), net.mix)),
        **weights,
        head=nn.Linear(32, 5),
    )


def siamese():
    def run(net, one, other):
        one, other = (net.encoder(each).mean((2, 3)) for each in (one, other))
        alike = F.cosine_similarity(one, other, dim=1)
        return net.head(torch.cat([(one - other).abs(), one * other, alike[:, None]], 1))

    return Net(run, encoder=nn.Sequential(conv(3, 16), conv(16, 32)), head=nn.Linear(65, 5))


def bilinear():
    """A layer that multiplies two inputs, and one scaled and shifted by the other."""

    def run(net, image, numbers):
        scale, shift = net.film(numbers)[:, :, None, None].chunk(2, 1)
        x = F.relu(torch.addcmul(shift, net.stem(image), 1 + scale))
        return net.head(net.both(x.mean((2, 3)), net.side(numbers)))

    parts = {"stem": nn.Conv2d(3, 16, 3), "film": nn.Linear(4, 32), "side": nn.Linear(4, 16)}
    return Net(run, **parts, both=nn.Bilinear(16, 16, 24), head=nn.Linear(24, 5))


def pyramid():
    """Heads that all levels have in common, each level added to the one above."""

    def run(net, x):
        levels = []
        for stage in net.stages:
            x = stage(x)
            levels.append(x)
        merged = [net.sides[-1](levels[-1])]
        for at in (1, 0):
            above = F.interpolate(merged[0], size=levels[at].shape[-2:])
            merged.insert(0, net.sides[at](levels[at]) + above)
        return [net.head(net.tower(each)) for each in merged], {"boxes": net.boxes(net.tower(merged[0]))}

    stages = nn.ModuleList([conv(3, 16), conv(16, 32, 3, 2), conv(32, 48, 3, 2)])
    sides = nn.ModuleList(nn.Conv2d(channels, 32, 1) for channels in (16, 32, 48))
    heads = {"head": nn.Conv2d(32, 5, 1), "boxes": nn.Conv2d(32, 4, 1)}
    return Net(run, stages=stages, sides=sides, tower=conv(32, 32), **heads)


KINDS = {
    "unet": (unet, IMAGES, {"first.0", "below.0", "rise", "mix.0"}),
    "vgg": (vgg, IMAGES, {"0.0.0", "0.2.0", "0.3.0", "2.0"}),
    "lstm": (lambda: recurrent(nn.LSTM, bidirectional=True), SIGNALS, {"conv", "memory"}),
    "lstm_projected": (lambda: recurrent(nn.LSTM, proj_size=16), SIGNALS, {"conv", "memory"}),
    "gru": (lambda: recurrent(nn.GRU), SIGNALS, {"conv", "memory"}),
    "signals": (signals, SIGNALS, {"body.0", "body.4"}),
    "volumes": (volumes, torch.randn(2, 1, 8, 8, 8), {"0", "4"}),
    "several": (several, (IMAGES, torch.ones(2, 4)), {"stem.0"}),
    "named": (named, {"image": IMAGES}, {"stem.0"}),
    "weight_norm": (
        lambda: normed(nn.utils.parametrizations.weight_norm),
        IMAGES,
        {"first.parametrizations.weight", "second.parametrizations.weight"},
    ),
    "convolutions": (convolutions, IMAGES, {"0.0", "1.0", "2", "4"}),
    "rearranged": (rearranged, IMAGES, {"stem.0", "up", "inner.0", "gate.0"}),
    "attention": (attention, SIGNALS, {"embed", "encoder.layers.0.linear1", "encoder.layers.1.linear1"}),
    "buffers": (buffers, IMAGES, {"first", "second"}),
    "spectral_norm": (spectral, IMAGES, {"2"}),
    "decoder": (decoder, SIGNALS, {"embed", "decoder.layers.0.linear1"}),
    "words": (words, WORDS, {"0", "1"}),
    "functions": (functions, IMAGES, {"weight", "mix"}),
    "siamese": (siamese, (IMAGES, IMAGES.flip(0)), {"encoder.0.0", "encoder.1.0"}),
    "bilinear": (bilinear, (IMAGES, torch.ones(2, 4)), {"stem", "side", "both"}),
    "pyramid": (pyramid, IMAGES, {"stages.0.0", "stages.1.0", "stages.2.0", "sides.0", "tower.0"}),
}


LATER = ("lstm_projected", "volumes", "words", "functions", "siamese", "pyramid")
"""Kinds with a sibling that is quicker to see."""


def run(network, given):
    torch.manual_seed(0)
    if isinstance(given, dict):
        return tree_leaves(network(**given))
    return tree_leaves(network(*given) if isinstance(given, tuple) else network(given))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in LATER else ()) for kind in KINDS]
)
def test_a_network_of_this_kind_becomes_a_space(kind):
    make, given, elastic = KINDS[kind]
    network = trained(make)
    space = dn.elastic(network, given)
    names = {gene.name.removesuffix(".width") for gene in space.genes if gene.name.endswith(".width")}
    assert names >= elastic
    whole = run(network, given)
    assert all(map(torch.equal, run(space.build(largest(space)), given), whole))
    supernet = dn.Supernet(space).train()
    for architecture in (largest(space), smallest(space), sample(space, random.Random(3))):
        member = supernet.extract(architecture).train()
        found = run(partial(supernet, architecture), given)
        assert all(map(torch.equal, found, run(member, given)))
        assert [each.shape for each in found] == [each.shape for each in whole]
    sizes = [sum(each.numel() for each in space.build(of(space)).parameters()) for of in (smallest, largest)]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_a_weight_norm_of_the_old_kind_is_computed_of_what_stays():
    network = trained(lambda: normed(nn.utils.weight_norm))
    space = dn.elastic(network, IMAGES)
    assert torch.equal(space.build(largest(space))(IMAGES), network(IMAGES))
    member = space.build(smallest(space))
    assert member.first.weight.shape == (8, 3, 3, 3)
    direction, length = member.first.weight_v, member.first.weight_g
    expected = direction * length / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(member.first.weight, expected)


def test_hidden_units_are_left_out_of_all_gates_of_a_recurrent_layer():
    network = trained(lambda: recurrent(nn.LSTM))
    member = dn.elastic(network, SIGNALS).build({"memory.width": 48})
    assert (member.memory.input_size, member.memory.hidden_size) == (16, 12)
    rows = network.memory.weight_hh_l0.view(4, 24, 24)
    units = network.memory.bias_ih_l0.view(4, 24).T
    left = member.memory.bias_ih_l0.view(4, 12).T
    kept = [at for at in range(24) if any(torch.equal(units[at], unit) for unit in left)]
    assert len(kept) == 12
    assert torch.equal(member.memory.weight_hh_l0.view(4, 12, 12), rows[:, kept][:, :, kept])


def test_layers_that_take_more_than_one_input_are_taken_from_the_end_of_their_list():
    space = dn.elastic(trained(decoder), SIGNALS, gates=(0.5,))
    assert space.model.report.choices["decoder.layers.depth"] == (2, 3)
    assert space.gene("decoder.layers.2.linear1.width").condition == (("decoder.layers.depth", (3,)),)
    reason = space.model.report.left_out["decoder.layers.0.gate"]
    assert reason == "a gate hands on one input, and the block takes more"
    member = space.build({"decoder.layers.depth": 2})
    assert (len(member.decoder.layers), member.decoder.num_layers) == (2, 2)
    whole = trained(decoder)
    whole.decoder.layers = whole.decoder.layers[:2]
    assert torch.equal(member(SIGNALS), whole(SIGNALS))


def test_a_layer_of_two_inputs_says_what_it_reads():
    space = dn.elastic(trained(bilinear), (IMAGES, torch.ones(2, 4)))
    both = space.build(smallest(space)).both
    assert both.weight.shape == (both.out_features, both.in1_features, both.in2_features) == (8, 8, 8)


def test_what_a_fixed_matrix_mixes_stays():
    """Pixels are no channels: a member sees the same picture as the whole network."""

    def run(net, x):
        small = F.linear(F.linear(x, net.matrix).transpose(2, 3), net.matrix.clone()).transpose(2, 3)
        return pooled(net, F.relu(net.stem(small)))

    net = Net(run, stem=nn.Conv2d(3, 16, 3), head=nn.Linear(16, 5))
    net.register_buffer("matrix", torch.randn(8, 16))
    space = dn.elastic(trained(lambda: net), IMAGES)
    assert [gene.name for gene in space.genes] == ["stem.width"]
    assert torch.equal(space.build(smallest(space)).matrix, net.matrix)


def test_what_is_not_used_stays():
    network = Net(
        lambda net, x: pooled(net, net.stem(x)), stem=conv(3, 16), other=conv(16, 32), head=nn.Linear(16, 5)
    )
    report = dn.elastic(network.eval(), IMAGES).model.report
    assert list(report.choices) == ["stem.0.width"]
    assert report.left_out["other.0"] == "is not used in the forward pass"


def test_layers_that_run_in_training_alone_are_refused():
    def forward(net, x):
        x = net.stem(x)
        return (pooled(net, x), net.aux(x)) if net.training else pooled(net, x)

    network = Net(forward, stem=conv(3, 16), aux=conv(16, 16), head=nn.Linear(16, 5)).eval()
    with pytest.raises(SpaceError, match=r"runs layers in training .*: aux\.0, aux\.1; .*aux_logits=False"):
        dn.elastic(network, IMAGES)


def test_channels_that_are_cut_by_a_constant_are_named():
    def forward(net, x):
        return pooled(net, net.last(net.stem(x).view(-1, 8, 2, 16, 16).flatten(1, 2)[:, :12]))

    network = Net(forward, stem=conv(3, 16), last=conv(12, 16), head=nn.Linear(16, 5)).eval()
    report = dn.elastic(network, IMAGES).model.report
    assert list(report.choices) == ["last.0.width"]
    assert report.left_out["stem.0"] == "is cut at a constant place"


def test_channels_whose_number_was_read_of_others_are_the_same():
    """Linear attention: what the values' channels become is viewed by the number of the input's."""

    def forward(net, x):
        x = net.stem(x)
        batch, channels, height, width = x.shape
        queries, keys, values = net.mix(x).flatten(2).chunk(3, 1)
        seen = torch.einsum("bcn,bdn->bcd", keys.softmax(-1), values)
        seen = torch.einsum("bcd,bcn->bdn", seen, queries.softmax(1))
        return pooled(net, x + net.out(seen.reshape(batch, channels, height, width)))

    network = trained(
        lambda: Net(
            forward,
            stem=conv(3, 32),
            mix=nn.Conv2d(32, 96, 1),
            out=nn.Conv2d(32, 32, 1),
            head=nn.Linear(32, 5),
        )
    )
    space = dn.elastic(network, IMAGES)
    assert list(space.model.report.choices) == ["stem.0.width"]
    for width in space.model.report.choices["stem.0.width"]:
        member = space.model({"stem.0.width": width})
        assert member(IMAGES).shape == (2, 5)
        assert member.mix.weight.shape == (3 * width, width, 1, 1)


def test_choices_that_fail_beside_larger_ones_are_named():
    """Two widths have to be equal for a reason that no rule sees; all at their smallest they are."""

    def forward(net, x):
        first, second = net.first(x), net.second(x)
        count = first.shape[1] // 2 * 2
        return pooled(net, net.last(second.reshape(len(x), count, *x.shape[2:]) * first.amax()))

    network = Net(
        forward, first=conv(3, 16), second=conv(3, 16), last=conv(16, 16), head=nn.Linear(16, 5)
    ).eval()
    report = dn.elastic(network, IMAGES).model.report
    assert list(report.choices) == ["last.0.width"]
    assert all("the forward pass fails" in report.left_out[f"{name}.0.width"] for name in ("first", "second"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035"])
def test_timms(timm, name):
    network = timm.create_model(name, num_classes=5).eval()
    images = torch.randn(2, 3, 32, 32)
    space = dn.elastic(network, images, gates=(0.5,), exits="layer2" if name == "resnet18" else ())
    assert torch.equal(space.build(largest(space))(images), network(images))
    assert space.build(smallest(space))(images).shape == (2, 5)
