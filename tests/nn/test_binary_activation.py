"""Binary activations: values, the gradient by cases, and a training that learns by them."""

import torch
from torch import nn

from dynnas.nn import activation


def test_signs_and_their_gradient():
    x = torch.tensor([-2.0, -1.0, -0.3, 0.0, 0.4, 1.0, 1.5], requires_grad=True)
    y = activation("sign", 1)(x.view(1, 1, 1, -1)).flatten()
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    y.backward(torch.arange(1.0, 8))
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 0]
    with torch.no_grad():
        assert activation("sign", 1)(x.view(1, 1, 1, -1)).flatten().tolist() == y.tolist()


def test_a_network_of_bits_learns_what_no_linear_one_can():
    """Exclusive or of two signs, by one hidden layer of bits."""
    torch.manual_seed(0)
    x = torch.randn(512, 2)
    y = (x.prod(1) > 0).long()
    network = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), activation("sign", 16), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert float((network.eval()(x).argmax(1) == y).float().mean()) > 0.8
