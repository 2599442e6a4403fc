"""A narrower block is a leading part of a wider one: its channels have the same part to play in both.

A wide block gets the weights of a narrow one in the places from which the supernet would slice them, and
zeros elsewhere; then it must compute what the narrow one does. Where a block cuts its channels into parts,
this fails if the parts lie one after the other.
"""

import pytest
import torch
from support.slot_configs import block
from torch.testing import assert_close

from dynnas.nn.networks.network import build
from dynnas.nn.registry import BLOCKS
from dynnas.nn.slices import joined_room, slice_of
from dynnas.nn.slicing import layouts
from dynnas.testing.conformance import lively


def widened(narrow, config):
    """A block of `config` with the weights of `narrow` where slices of its own would be."""
    wide = build(config).eval()
    tensors = dict([*wide.named_parameters(), *wide.named_buffers()])
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.fill_(1 if name.endswith("running_var") else 0)
        rooms = layouts(wide)
        for name, layout in layouts(narrow).items():
            part = slice_of(joined_room(None, rooms[name]), layout)
            part.of(tensors[name]).copy_(narrow.get_parameter(name))
        for name, buffer in narrow.named_buffers():
            tensors[name][tuple(map(slice, buffer.shape))] = buffer
    return wide


@pytest.mark.parametrize("op", ["static", "condconv", "dyconv", "dynet"])
@pytest.mark.parametrize(
    ("narrow", "wide", "stride"), [((8, 8), (16, 16), 1), ((8, 16), (12, 24), 2), ((8, 12), (12, 16), 1)]
)
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_narrow_block_is_a_leading_part_of_a_wide_one(kind, narrow, wide, stride, op):
    small, large = (
        block(kind, op, *widths, stride, expand=2.0, rank=0.5, attention="se") for widths in (narrow, wide)
    )
    module = lively(build(small)).eval()
    x = torch.randn(2, narrow[0], 6, 6)
    padded = torch.cat((x, torch.zeros(2, wide[0] - narrow[0], 6, 6)), 1)
    y = widened(module, large)(padded)
    assert_close(y[:, : narrow[1]], module(x), rtol=1e-5, atol=1e-5)
