"""A glance learns to look where something is, through the crop alone."""

import pytest
import torch
from torch.nn import functional as F

from dynnas.language.parser import parse_space
from dynnas.nn.networks.network import Network
from dynnas.space.moves import largest

SPACE = parse_space("""
input: {channels: 1, classes: 3, resolutions: [8, 16], choose: glance, thresholds: 1}
stem: {width: 8}
stages: [{block: conv, depth: 2, width: 16, stride: 2}]
""")


def squares(count, generator):
    """A bright square of fine stripes somewhere; seen at half the size they are hardly to be told apart."""
    labels = torch.randint(3, (count,), generator=generator)
    places = torch.randint(13, (count, 2), generator=generator)
    on = torch.arange(4) % 2
    stripes = 2.0 * torch.stack([on.expand(4, 4), on[:, None].expand(4, 4), (on + on[:, None]) % 2])
    x = 0.1 * torch.randn(count, 1, 16, 16, generator=generator)
    for image, label, (down, right) in zip(x, labels, places.tolist(), strict=True):
        image[0, down : down + 4, right : right + 4] += stripes[label]
    return x, labels, places


@pytest.mark.slow
def test_it_looks_where_the_square_is():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = Network(SPACE.network_config(largest(SPACE))).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(300):
        x, labels, _ = squares(64, generator)
        loss = sum(F.cross_entropy(logits, labels) for logits in network.logits(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    x, labels, places = squares(500, generator)
    with torch.no_grad():
        glance, closer = (logits.argmax(1) for logits in network.logits(x))
        looked = network.looks_at(x)
    at_once, in_the_end = ((guess == labels).float().mean() for guess in (glance, closer))
    assert in_the_end > 0.8
    assert in_the_end > at_once + 0.1
    along = [
        float(torch.corrcoef(torch.stack([looked[:, axis].float(), places[:, axis].float()]))[0, 1])
        for axis in (0, 1)
    ]
    assert min(along) > 0.2, along
    assert sum(along) > 1.0, along
