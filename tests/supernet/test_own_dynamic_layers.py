"""Dynamic kernels inside a network of one's own share their weights as those of space files do."""

import copy

import pytest
import torch
from torch import nn

import dynnas as dn
from dynnas.nn import Conv2d
from dynnas.testing import check_space


class Dynamic(nn.Module):
    def __init__(self, width, op="static", experts=None, kernel=3):
        super().__init__()
        more = {} if experts is None else {"experts": experts}
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.conv = Conv2d(width, width, kernel, padding=kernel // 2, op=op, **more)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(self.stem(x)))).mean((2, 3)))


SPACE = dn.Space.of(
    Dynamic,
    width=[4, 8],
    kernel=[3, 5],
    op=["static", "condconv", "dyconv"],
    experts=dn.when(op=["condconv", "dyconv"], choose=[2, 4]),
)
IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_a_class_with_dynamic_kernels_passes():
    checked = check_space(SPACE, IMAGES, networks=12)
    assert len(checked.architectures) == 12


def test_a_static_kernel_is_the_mean_of_the_bank():
    supernet = dn.Supernet(SPACE, seed=1)
    dynamic = supernet.extract({"width": 4, "kernel": 3, "op": "condconv", "experts": 4})
    static = supernet.extract({"width": 4, "kernel": 3, "op": "static"})
    banks = [p for name, p in dynamic.conv.named_parameters() if p.ndim == 5]
    kernels = [p for name, p in static.conv.named_parameters() if p.ndim == 4]
    assert len(banks) == len(kernels) == 1
    torch.testing.assert_close(kernels[0], banks[0].mean(0), rtol=0, atol=0)


def test_a_copy_of_a_supernet_runs_on_its_own_weights():
    supernet = dn.Supernet(SPACE, seed=1)
    member = {"width": 4, "kernel": 3, "op": "dyconv", "experts": 2}
    before = supernet(member, IMAGES)
    twin = copy.deepcopy(supernet)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.zero_()
    assert torch.equal(twin(member, IMAGES), before)
    assert not torch.equal(supernet(member, IMAGES), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_supernet_changes_its_precision_as_a_network_does(dtype):
    supernet = dn.Supernet(SPACE, seed=1)
    member = {"width": 4, "kernel": 3, "op": "static"}
    supernet(member, IMAGES)
    assert torch.equal(
        supernet.to(dtype)(member, IMAGES.to(dtype)), supernet.extract(member)(IMAGES.to(dtype))
    )
