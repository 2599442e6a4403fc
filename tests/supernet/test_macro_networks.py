"""The networks of NAS-Bench-Macro, built here, have the published weights and multiply-adds."""

import random

import numpy as np
import pytest
import torch
from support.macro_net import macro_space
from support.real_data import MACRO_FILE

from dynnas.nn.layers.macs import count_macs
from dynnas.supernet.supernet import Supernet


def counted(name):
    with torch.device("meta"):
        network = macro_space().build({f"layer{at}": int(value) for at, value in enumerate(name, 1)}).eval()
        _, macs = count_macs(network, torch.zeros(1, 3, 32, 32))
    return sum(value.numel() for value in network.parameters()), macs


@pytest.mark.skipif(not MACRO_FILE.exists(), reason="needs nbmacro_cifar10.npz in $DYNNAS_DATA")
def test_counts_are_those_of_the_table():
    with np.load(MACRO_FILE) as table:
        for row in random.Random(0).sample(range(6561), 3):
            found = counted("".join(map(str, table["choice"][row])))
            assert found == (int(table["params"][row]), int(table["flops"][row]))


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["separate", "sliced"])
def test_a_supernet_runs_what_it_extracts(sharing):
    space, x = macro_space(sharing, side=8), torch.randn(2, 3, 16, 16)
    supernet = Supernet(space, seed=0).eval()
    assert space.size == 6561
    for name in ("02102201", "22222222"):
        values = {f"layer{at}": int(value) for at, value in enumerate(name, 1)}
        with torch.no_grad():
            torch.testing.assert_close(supernet(values, x), supernet.train().extract(values)(x))
            supernet.eval()
    tensors = ((name, value) for name, value in supernet.named_parameters() if value.ndim == 4)
    kernels = [tuple(value.shape[2:]) for name, value in tensors if "depthwise" in name]
    assert len(kernels) == 8 * (2 if sharing == "separate" else 1)
    assert set(kernels) == ({(3, 3), (5, 5)} if sharing == "separate" else {(5, 5)})
