"""Layers of torch that are one operator in eval mode, in graphs that have no such operator."""

import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import one_by_one
from torch import nn
from torch.nn import functional as F

from dynnas.errors import TargetError
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.runtimes.torch.export import to_pt2_batch

SHAPE = (3, 8, 8)
IMAGES = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Tokens of 16 numbers, mixed by a layer of torch."""

    def __init__(self, mix):
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 16, 4, 4), mix, nn.Linear(16, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if isinstance(self.mix, nn.MultiheadAttention):
            return self.head((x + self.mix(x, x, x, need_weights=False)[0]).mean(1))
        return self.head(self.mix(x).mean(1))


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, groups=3), nn.Conv2d(24, 24, 3, groups=4)
        self.shuffle, self.head = nn.ChannelShuffle(4), nn.Linear(24, 5)

    def forward(self, x):
        x = self.second(F.channel_shuffle(self.first(x), 3))
        return self.head(self.shuffle(x).amax((2, 3)))


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 5)

    def forward(self, x):
        return self.head(torch.fft.fft2(x).real.flatten(1))


def encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


KINDS = {
    "attention": lambda: Tokens(nn.MultiheadAttention(16, 2, batch_first=True)),
    "encoder": lambda: Tokens(encoder()),
    "shuffle": Shuffled,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_graphs_answer_as_torch(kind):
    torch.manual_seed(0)
    network = PlainNetwork(KINDS[kind]().eval(), SHAPE, 5).eval()
    before = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        expected = network(IMAGES).numpy()
    alone = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    assert_allclose(one_by_one(alone, IMAGES), expected, rtol=1e-4, atol=1e-5)
    batches = OnnxRunner(to_onnx_batch(network).SerializeToString(), threads=1)
    assert_allclose(batches(IMAGES.numpy()), expected, rtol=1e-4, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_an_operator_that_graphs_do_not_have_is_named():
    network = PlainNetwork(Fourier().eval(), SHAPE, 5).eval()
    with pytest.raises(
        TargetError, match=r"ONNX: the network has no graph: .*fft.*; write that part with other"
    ):
        to_onnx(network)


def test_attention_is_counted_in_eval_mode():
    """Of 4 tokens of 16 numbers: their patches, projections, products of all pairs, and the head."""
    attention = 4 * 16 * 48 + 2 * 4 * 4 * 16 + 4 * 16 * 16
    around = 4 * 48 * 16 + 16 * 5
    one = PlainNetwork(KINDS["attention"]().eval(), SHAPE, 5).eval()
    assert cost_of(one).macs == attention + around
    two = PlainNetwork(KINDS["encoder"]().eval(), SHAPE, 5).eval()
    assert cost_of(two).macs == 2 * (attention + 2 * 4 * 16 * 32) + around


class Counting(nn.Module):
    """A class token for as many images as there are, by their number."""

    def __init__(self):
        super().__init__()
        self.token, self.head = nn.Parameter(torch.randn(1, 3)), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(torch.cat([self.token.expand(len(x), -1), x.mean((2, 3))], 1))


def test_a_program_for_one_number_of_images_is_refused_with_the_remedy():
    network = PlainNetwork(Counting().eval(), SHAPE, 5).eval()
    with pytest.raises(
        TargetError, match=r"torch.export: the network has no program for any .* use x.shape\[0\]"
    ):
        to_pt2_batch(network)
