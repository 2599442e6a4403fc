"""The space of sequences: all of its kinds of networks answer, and static ones are told from others."""

import sys
from pathlib import Path

import pytest
import torch

from dynnas.language.parser import load_space
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.moves import enumerate_all
from dynnas.study.static_part import static_part

FILE = Path(__file__).parents[2] / "studies" / "sequences" / "sequences.yaml"


@pytest.fixture(scope="module")
def space():
    names = ("networks", "results")  # other studies have modules of these names
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield load_space(FILE)
    sys.modules.pop("networks", None)
    sys.modules.update(before)


@torch.no_grad()
def test_every_kind_of_network_answers_and_says_whether_it_is_dynamic(space) -> None:
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    some = space.restrict({"units": [16], "layers": [2], "updates": [0.4], "threshold": [0.7]})
    static = {each.key for each in enumerate_all(static_part(some))}
    found = list(enumerate_all(some))
    assert len(found) == 2 * 2 * (2 * 3 + 2)
    assert len(static) == 2 * (2 + 1)
    for architecture in found:
        network = PlainNetwork(space.build(architecture).eval(), (1, 28, 28), 10)
        assert network(images).shape == (3, 10)
        gated = bool(network.config.gated or network.config.leaves)
        chosen = architecture["selected"] < 1
        assert (gated or chosen) == (architecture.key not in static), architecture
