"""Dynamic ReLU by the paper's formula, image by image and channel by channel."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.registry import ACTIVATIONS
from dynnas.testing.conformance import lively


@pytest.mark.parametrize("name", ["dyrelu_a", "dyrelu_b"])
def test_against_the_formula(name):
    channels = 8
    act = lively(ACTIVATIONS[name](channels))
    x = torch.randn(3, channels, 4, 5)
    hidden = F.relu(act.reduce(x.mean((2, 3))))
    expected = torch.empty_like(x)
    for image in range(3):
        for channel in range(channels):
            if name == "dyrelu_a":
                logits = act.expand.fc(hidden[image])
            else:
                logits = act.expand.weight[:, channel] @ hidden[image] + act.expand.bias[:, channel]
            theta = 2 * torch.sigmoid(logits) - 1
            a1, a2, b1, b2 = 1 + theta[0], theta[1], 0.5 * theta[2], 0.5 * theta[3]
            values = x[image, channel]
            expected[image, channel] = torch.maximum(a1 * values + b1, a2 * values + b2)
    assert_close(act(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["dyrelu_a", "dyrelu_b"])
def test_without_weights_it_is_relu(name):
    act = ACTIVATIONS[name](8)
    for parameter in act.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 8, 4, 4)
    assert_close(act(x), F.relu(x), rtol=0, atol=0)


def test_the_first_layer_has_a_quarter_of_the_channels():
    assert ACTIVATIONS["dyrelu_b"](24).reduce.weight.shape == (6, 24)
    assert ACTIVATIONS["dyrelu_a"](3).reduce.weight.shape == (1, 3)
