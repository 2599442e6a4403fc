"""What comes out of a supernet is the class and a file of weights: it runs where dynnas is not installed."""

import importlib
import random
import subprocess
import sys

import torch

import dynnas as dn
from dynnas.space.moves import largest, sample

CLASS = """
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, depth, width, kernel=3):
        super().__init__()
        layers, channels = [], 3
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width)]
            channels = width
        self.body, self.head = nn.Sequential(*layers), nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))
"""
ALONE = """
import sys

class Hidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "dynnas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import torch
from plain_class import Plain

for values, state, images, expected in torch.load("networks.pt", weights_only=True):
    network = Plain(**values)
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        assert torch.equal(network.eval()(images), expected)
try:
    import dynnas
except ModuleNotFoundError:
    print("without dynnas")
"""


@torch.no_grad()
def test_a_network_runs_where_there_is_no_dynnas(tmp_path, monkeypatch):
    (tmp_path / "plain_class.py").write_text(CLASS)
    monkeypatch.syspath_prepend(tmp_path)
    plain = importlib.import_module("plain_class").Plain
    space = dn.Space.of(plain, depth=[1, 2], width=[4, 8], kernel=[3, 5])
    supernet = dn.Supernet(space, seed=0)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    networks = []
    for values in (largest(space), sample(space, random.Random(0))):
        network = supernet.extract(values).train()
        network(images)
        networks.append([space.arguments(values), network.state_dict(), images, network.eval()(images)])
    torch.save(networks, tmp_path / "networks.pt")
    run = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.stdout.strip() == "without dynnas", run.stderr
