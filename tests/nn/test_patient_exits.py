"""Exits by patience: by counting, in real execution, and in the graph."""

import numpy as np
import pytest
import torch
from support.contexts import executed
from torch import nn

from dynnas.nn import PatientExits
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork


def network(patience):
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh())]
    stages += [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4)]
    body = PatientExits(stages, [nn.Linear(8, 3, bias=False) for _ in stages], patience=patience)
    with torch.no_grad():
        for value in body.parameters():
            value.mul_(3)
    return PlainNetwork(body, (1, 3, 4), 3).eval()


@pytest.mark.parametrize("patience", [1, 2])
@torch.no_grad()
def test_images_leave_where_exits_have_agreed_so_often(patience):
    made, x = network(patience), torch.randn(40, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    outputs = made.module.outputs(x) if hasattr(made, "module") else next(made.children()).outputs(x)
    expected, taken = [], []
    for image in range(len(x)):
        said, count = [int(output[image].argmax()) for output in outputs], 0
        for at in range(len(said)):
            count = count + 1 if at and said[at] == said[at - 1] else 0
            if count == patience or at == len(said) - 1:
                break
        taken.append(at)
        expected.append(outputs[at][image])
    assert len({*taken}) > 2
    expected = torch.stack(expected)
    with tracing(made, Left) as trace:
        torch.testing.assert_close(made(x), expected)
    assert trace.of(Left)[0].taken.tolist() == taken
    torch.testing.assert_close(executed(made, "real")(x), expected)
    runner = OnnxRunner(to_onnx(made).SerializeToString(), threads=1)
    answers = np.concatenate([runner(image[None].numpy()) for image in x])
    np.testing.assert_allclose(answers, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_patience_begins_at_one():
    with pytest.raises(ValueError, match="PatientExits: patience is 0; allowed: 1 or more"):
        PatientExits([nn.Identity()], [nn.Identity()], patience=0)
