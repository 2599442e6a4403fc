"""Operators of torch, alone in a module, in models of LiteRT: their answers are torch's."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from dynnas.errors import TargetError
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.settings.settings import TargetSettings

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="ai-edge-litert is not installed")

TARGET = TargetSettings(runtime="litert")
SHAPE = (8, 9, 12)


class Does(nn.Module):
    """A function of a map as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Tokens(nn.Module):
    """A layer of tokens (1, 12, 72), which are columns of the map."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        x = x.flatten(1, 2).transpose(1, 2)
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0]
        return self.layer(x)


class OwnKernel(nn.Module):
    """A convolution whose kernel is computed from the image."""

    def __init__(self, kernel, **geometry):
        super().__init__()
        self.kernel, self.geometry = kernel, geometry
        self.groups = geometry.get("groups", 1)
        self.make = nn.Linear(8, 16 * 8 // self.groups * kernel * kernel)

    def forward(self, x):
        weight = self.make(x.mean((2, 3))).reshape(16, 8 // self.groups, self.kernel, self.kernel)
        return F.conv2d(x, weight, x.mean((2, 3)).repeat(1, 2)[0], **self.geometry)


def grid(x):
    return torch.stack([x[:, 0], x[:, 1]], -1)


MODULES = {
    "conv": lambda: nn.Conv2d(8, 16, 3, padding=1),
    "conv by steps": lambda: nn.Conv2d(8, 16, 3, stride=2, padding=1),
    "conv by odd steps": lambda: nn.Conv2d(8, 16, (5, 2), stride=(3, 2), padding=(2, 0), bias=False),
    "conv with gaps": lambda: nn.Conv2d(8, 16, 3, padding=2, dilation=2),
    "conv in groups": lambda: nn.Conv2d(8, 16, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "depthwise, wider": lambda: nn.Conv2d(8, 24, 3, stride=2, groups=8),
    "conv of a line": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 6, 5, stride=2, padding=2)),
    "conv transposed": lambda: nn.ConvTranspose2d(8, 6, 2, stride=2),
    "conv transposed, cut": lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "own kernel 1x1": lambda: OwnKernel(1),
    "own kernel 1x1 by steps": lambda: OwnKernel(1, stride=2),
    "own kernel 3x3": lambda: OwnKernel(3, padding=1),
    "own kernel 3x3 by steps": lambda: OwnKernel(3, padding=1, stride=2),
    "own kernel 3x3 with gaps": lambda: OwnKernel(3, padding=1, dilation=2),
    "own kernel in groups": lambda: OwnKernel(3, padding=1, groups=2),
    "own kernel depthwise": lambda: OwnKernel(3, stride=2, groups=8),
    "max pool": lambda: nn.MaxPool2d(2),
    "max pool, padded": lambda: nn.MaxPool2d(3, 2, 1),
    "max pool, rounded up": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "mean pool": lambda: nn.AvgPool2d(3, 2),
    "mean pool, padding counts": lambda: nn.AvgPool2d(3, 2, 1),
    "mean pool, padding does not count": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "mean pool, rounded up": lambda: nn.AvgPool2d(2, ceil_mode=True),
    "mean pool, rounded up and padded": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "adaptive pool": lambda: nn.AdaptiveAvgPool2d((3, 4)),
    "largest of all": lambda: nn.AdaptiveMaxPool2d(1),
    "batch norm": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)),
    "group norm": lambda: nn.GroupNorm(4, 8),
    "instance norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "layer norm": lambda: Tokens(nn.LayerNorm(72)),
    "layer norm of maps": lambda: nn.LayerNorm([8, 9, 12]),
    "linear": lambda: Tokens(nn.Linear(72, 5)),
    "attention": lambda: Tokens(nn.MultiheadAttention(72, 4, batch_first=True)),
    "encoder": lambda: Tokens(nn.TransformerEncoderLayer(72, 4, 32, batch_first=True, activation="gelu")),
    **{
        name: lambda name=name: getattr(nn, name)()
        for name in (
            "ReLU", "ReLU6", "GELU", "SiLU", "Sigmoid", "Tanh", "Hardswish", "Hardsigmoid", "Hardtanh", "ELU",
            "LeakyReLU", "PReLU", "Softplus", "Softsign", "Mish", "SELU", "LogSigmoid",
        )
    },
    "error function": lambda: Does(torch.erf),
    "gelu by hand": lambda: Does(lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
    "gelu by another hand": lambda: Does(lambda x: 0.5 * (x * (torch.erf(x * 0.5**0.5) + 1))),
    "nearly a gelu": lambda: Does(lambda x: x * 0.5 * (1 + torch.erf(x / 2))),
    "nearly a gelu, larger": lambda: Does(lambda x: x * 0.7 * (1 + torch.erf(x / 2**0.5))),
    "gelu by tanh": lambda: nn.GELU(approximate="tanh"),
    "prelu of channels": lambda: nn.PReLU(8, 0.3),
    "softmax of channels": lambda: nn.Softmax(1),
    "softmax of columns": lambda: nn.Softmax(3),
    "log softmax": lambda: nn.LogSoftmax(1),
    "pixel shuffle": lambda: nn.PixelShuffle(2),
    "pixel unshuffle": lambda: nn.PixelUnshuffle(3),
    "channel shuffle": lambda: nn.ChannelShuffle(4),
    "twice as large": lambda: nn.Upsample(scale_factor=2, mode="nearest"),
    "between pixels": lambda: nn.Upsample(size=(20, 17), mode="bilinear"),
    "between pixels, corners kept": lambda: nn.Upsample(size=(20, 17), mode="bilinear", align_corners=True),
    "zeros around": lambda: nn.ZeroPad2d((1, 2, 0, 3)),
    "ones around": lambda: nn.ConstantPad2d(1, 1.0),
    "edges repeated": lambda: nn.ReplicationPad2d((1, 2, 3, 0)),
    "around the other side": lambda: nn.CircularPad2d((1, 2, 3, 0)),
    "steeper elu": lambda: nn.ELU(alpha=2.0),
    "mirrored": lambda: nn.ReflectionPad2d(2),
    "cut by padding": lambda: nn.ZeroPad2d((-1, 2, 0, -3)),
    "sampled": lambda: Does(lambda x: F.grid_sample(x, grid(x), align_corners=False)),
    "sampled, corners": lambda: Does(lambda x: F.grid_sample(x, grid(x), align_corners=True)),
    "sampled, border": lambda: Does(
        lambda x: F.grid_sample(x, 2 * grid(x), padding_mode="border", align_corners=False)
    ),
    "every second": lambda: Does(lambda x: x[:, :, 1::2, ::3]),
    "backwards": lambda: Does(lambda x: x.flip(3)),
    "chosen": lambda: Does(lambda x: x[:, [3, 1, 1]]),
    "split": lambda: Does(lambda x: torch.cat([part * k for k, part in enumerate(x.split([1, 3, 4], 1))], 1)),
    "chunks": lambda: Does(lambda x: sum(x.chunk(4, 3))),
    "stacked": lambda: Does(lambda x: torch.stack([x, -x], 2).flatten(1, 2)),
    "rolled": lambda: Does(lambda x: x.roll((2, 3), (2, 3))),
    "windows": lambda: Does(lambda x: x.unflatten(2, (3, 3)).unflatten(4, (4, 3)).permute(0, 2, 4, 3, 5, 1)),
    "repeated": lambda: Does(lambda x: x.repeat(1, 2, 1, 3)),
    "expanded": lambda: Does(lambda x: x.mean(2, keepdim=True).expand(-1, -1, 5, -1)),
    "scaled by rows": lambda: Does(lambda x: x.unflatten(1, (2, 4)) * x.mean(3)[:, None, :4, :, None]),
    "sums": lambda: Does(lambda x: x.sum((1, 3)) + x.amax((1, 3)) - x.amin((1, 3)) + x.pow(2).mean((1, 3))),
    "norms": lambda: Does(lambda x: F.normalize(x, dim=1)),
    "deviation": lambda: Does(lambda x: x.var((2, 3)).sqrt()),
    "log of sums": lambda: Does(lambda x: x.logsumexp(1)),
    "largest two": lambda: Does(lambda x: x.topk(2, 1)[0]),
    "largest, where": lambda: Does(lambda x: x.argmax(1).float()),
    "running sum": lambda: Does(lambda x: x.cumsum(3)),
    "where": lambda: Does(lambda x: torch.where(x > 0.2, x, x.mean(1, keepdim=True))),
    "masked": lambda: Does(lambda x: x.masked_fill((x < 0) | (x > 1), -3.0)),
    "picked": lambda: Does(lambda x: x.gather(1, x.argmax(1, keepdim=True))),
    "put": lambda: Does(
        lambda x: torch.zeros_like(x).scatter(1, x.topk(2, 1)[1], x.topk(2, 1)[0])
    ),
    "powers": lambda: Does(lambda x: (x.abs() + 0.1) ** 0.7 + x.sin() * x.cos() + x.exp() - x.abs().log1p()),
    "rounded": lambda: Does(lambda x: (3 * x).floor() + (3 * x).ceil() + (x - 0.5).sign()),
    "products": lambda: Does(lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2)),
    "products of maps": lambda: Does(lambda x: x @ x.transpose(2, 3)),
    "sum of products": lambda: Does(lambda x: torch.einsum("bchw,bdhw->bcd", x, x)),
    "sum of products, summed before": lambda: Does(lambda x: torch.einsum("bchw,bdhv->wd", x, x)),
    "turned both ways": lambda: Does(
        lambda x: (y := x[0, :, :8, :8]).permute(1, 2, 0) + y + y.permute(1, 2, 0) * y.transpose(1, 2)
    ),
    "outer product": lambda: Does(lambda x: x.mean(3)[..., None] * x.mean(2)[:, :, None]),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("kind", MODULES)
def test_it_answers_as_torch(kind):
    torch.manual_seed(0)
    module = MODULES[kind]().eval()
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    runner = load_artifact(compile_network(module, TARGET, shape=SHAPE))
    for image in torch.randn(3, 1, *SHAPE):
        expected, found = module(image).numpy(), runner(image.numpy())
        assert found.shape == expected.shape
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("module", "lacking"),
    [
        (nn.Upsample(scale_factor=1.5, mode="bicubic"), "Resize of 2 axes in the mode cubic"),
        (nn.MaxPool2d(2, dilation=2), "MaxPool with gaps in its window"),
        (nn.ConvTranspose2d(8, 8, 2, groups=2), "ConvTranspose of groups"),
        (Does(lambda x: torch.linalg.det(x[..., :2, :2])), "operator Det"),
    ],
)
def test_what_it_lacks_is_named(module, lacking):
    with pytest.raises(TargetError, match=f"LiteRT cannot run this network: it has no {lacking}"):
        compile_network(module.eval(), TARGET, shape=SHAPE)


@pytest.mark.parametrize("kind", ["GELU", "gelu by hand", "gelu by another hand"])
def test_a_gelu_is_one_operator(kind):
    artifact = compile_network(MODULES[kind]().eval(), TARGET, shape=SHAPE)
    model = schema.ModelT.InitFromPackedBuf(artifact.data)
    assert [code.builtinCode for code in model.operatorCodes] == [schema.BuiltinOperator.GELU]
