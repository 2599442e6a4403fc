"""Tokens that halt: the equations by a loop over tokens, real execution, costs, graphs and sharing."""

import json
from math import prod
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from support.contexts import executed
from torch import nn

from dynnas.errors import SpaceError
from dynnas.nn import HaltingTokens, TokenLayer
from dynnas.nn.context import tracing
from dynnas.nn.gates.gate import Decision
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.testing.spaces import check_space

TOKENS, WIDTH, CLASSES = 6, 8, 3
SIDES = ("input_type_shape", "output_type_shape")


class Net(nn.Module):
    def __init__(self, depth: int = 4, heads: int = 2, width: int = WIDTH, center: float = 1.0) -> None:
        super().__init__()
        self.embed = nn.Linear(5, width)
        layers = [TokenLayer(width, heads, head=4, ratio=2) for _ in range(depth)]
        self.body = HaltingTokens(layers, TOKENS, center=center)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(x[:, 0])).mean(1))


def images(count, seed=0):
    return torch.randn(count, 1, TOKENS, 5, generator=torch.Generator().manual_seed(seed))


def lively(center=1.0):
    torch.manual_seed(2)
    network = Net(center=center).eval()
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                value.mul_(2.5)
    return network


@torch.no_grad()
def test_tokens_halt_by_the_equations_of_the_paper():
    network = lively()
    body, x = network.body, network.embed(images(12)[:, 0])
    layers = [body.first, *(halt.block.layer for halt in body.halts)]
    found, depths = body(x), set()
    for image, said in zip(x, found, strict=True):
        now, running = image, list(range(TOKENS))
        total, output = torch.zeros(TOKENS), torch.zeros_like(image)
        for number, layer in enumerate(layers):
            now[running] = layer(now[running][None])[0]  # those that have halted are not there
            for token in list(running):
                h = float(torch.sigmoid(now[token, 0] - 1.0)) if number < len(layers) - 1 else 1.0
                ends = float(total[token]) + h >= 0.99
                output[token] += (1 - total[token] if ends else h) * now[token]
                total[token] += h
                if ends:
                    running.remove(token)
                    depths.add(number)
            if not running:
                break
        torch.testing.assert_close(said, output, rtol=1e-4, atol=1e-4)
    assert len(depths) > 1


@torch.no_grad()
def test_leaving_halted_tokens_out_gives_the_same():
    network = PlainNetwork(lively(), (1, TOKENS, 5), CLASSES).eval()
    x = images(24)
    with tracing(network, Decision) as trace:
        real = network(x)
    assert {*torch.cat([each.choice.sum(1) for each in trace.of(Decision)]).tolist()} > {TOKENS}
    torch.testing.assert_close(executed(network, "masked")(x), real, rtol=1e-4, atol=1e-4)
    runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, real.numpy(), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_costs_are_those_of_the_tokens_that_ran():
    network = PlainNetwork(lively(), (1, TOKENS, 5), CLASSES).eval()
    size = cost_of(network)
    layer = network.module.body.first
    for tokens in (1, 4, TOKENS):
        expected = count_macs(layer, torch.zeros(1, tokens, WIDTH))[1]
        assert [gate.macs[tokens] for gate in size.gates] == [expected] * 3
    assert [gate.macs[0] for gate in size.gates] == [0] * 3
    x = images(16)
    with tracing(network, Decision) as trace:
        network(x)
    used = GateUse.of(size, torch.zeros(16, dtype=torch.int64), trace.of(Decision))
    counts = torch.stack([each.choice.sum(1) for each in trace.of(Decision)])
    fixed = size.macs - sum(gate.full for gate in size.gates)
    macs = torch.tensor(size.gates[0].macs)
    assert used.image_macs == tuple((fixed + macs[counts].sum(0)).tolist())
    assert len({*used.image_macs}) > 1


def multiply_adds_run(model, images, folder):
    """By image, from the shapes that ONNX Runtime's profiler saw multiplied."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    found = []
    for image in images:
        options.profile_file_prefix = str(folder / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session.run(None, {"image": image[None].numpy()})
        events = json.loads(Path(session.end_profiling()).read_text())
        runs = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
        products = [run for run in runs if "MatMul" in run["op_name"] or "Gemm" in run["op_name"]]
        shapes = [[next(iter(run[side][0].values())) for side in SIDES] for run in products]
        found.append(sum(prod(into) * out[-1] for into, out in shapes))
    return found


@torch.no_grad()
@pytest.mark.parametrize("center", [1.0, -9.0])
def test_graphs_multiply_no_token_that_has_halted(center, tmp_path):
    network = PlainNetwork(lively(center), (1, TOKENS, 5), CLASSES).eval()
    size, x = cost_of(network), images(8)
    with tracing(network, Decision) as trace:
        expected = network(x)
    used = GateUse.of(size, torch.zeros(8, dtype=torch.int64), trace.of(Decision)).image_macs
    model = to_onnx(network).SerializeToString()
    runner = OnnxRunner(model, threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert multiply_adds_run(model, x, tmp_path) == [*used]
    assert (max(used) < size.macs / 2) == (center < 0)  # all halt behind the first layer


def test_gradients_of_the_use_ask_tokens_to_halt():
    network = lively().train()
    with tracing(network, Decision) as trace:
        network(images(4))
    used = sum((each.usage @ torch.arange(TOKENS + 1.0)).sum() for each in trace.of(Decision))
    network.body.first.mlp[2].bias.grad = None
    (gradient,) = torch.autograd.grad(used, [network.body.first.mlp[2].bias])
    assert float(gradient[0]) < 0  # a larger first number halts a token earlier


def test_a_class_with_halting_tokens_is_a_space():
    check_space(Space.of(Net, depth=[1, 3], heads=[1, 2], width=[4, 8]), images(3))


def test_what_has_no_layers_is_refused():
    with pytest.raises(
        SpaceError, match="HaltingTokens: 4 tokens; allowed: 1 or more, and at least one layer"
    ):
        HaltingTokens([], 4)
    with pytest.raises(SpaceError, match="HaltingTokens: target is 0; allowed: above 0"):
        HaltingTokens([TokenLayer(4, 1), TokenLayer(4, 1)], 4, target=0)
