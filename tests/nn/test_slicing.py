"""The slicing rules, against shapes and indices worked out by hand."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from dynnas.errors import SpaceError
from dynnas.nn.slices import Slice, joined_room, slice_of
from dynnas.nn.slicing import centre, groups, indices, lay_out, layouts, leading, mean, parts


def taken(shared, wanted, rule=leading):
    """The slice of `wanted` out of a tensor with room for both."""
    layout = lay_out(wanted, rule)
    return slice_of(joined_room(joined_room(None, lay_out(shared, rule)), layout), layout)


KERNEL = centre(-2, -1)


@pytest.mark.parametrize(
    ("shared", "wanted", "rule", "expected"),
    [
        ((8, 4), (8, 4), leading, Slice()),
        ((8, 4), (5, 3), leading, Slice((0, 0), (5, 3))),
        ((8,), (2,), leading, Slice((0,), (2,))),
        ((2, 3, 9, 9), (2, 3, 4, 9), leading, Slice((0, 0, 0, 0), (2, 3, 4, 9))),
        ((8, 4, 5, 5), (6, 4, 3, 3), KERNEL, Slice((0, 0, 1, 1), (6, 4, 3, 3))),
        ((8, 4, 7, 7), (8, 4, 3, 3), KERNEL, Slice((0, 0, 2, 2), (8, 4, 3, 3))),
        ((4, 6, 1, 5, 5), (6, 1, 5, 5), mean() & KERNEL, Slice(averaged=1)),
        (
            (4, 8, 1, 5, 5),
            (6, 1, 3, 3),
            mean() & KERNEL,
            Slice((0, 0, 0, 1, 1), (4, 6, 1, 3, 3), averaged=1),
        ),
        (
            (4, 8, 1, 5, 5),
            (2, 6, 1, 3, 3),
            mean() & KERNEL,
            Slice((0, 0, 0, 1, 1), (2, 6, 1, 3, 3)),
        ),
        (
            (3, 4, 5, 5, 5, 5),
            (3, 2, 3, 3, 3, 3),
            centre(-4, -3, -2, -1),
            Slice((0, 0, 1, 1, 1, 1), (3, 2, 3, 3, 3, 3)),
        ),
        ((), (), leading, Slice()),
    ],
)
def test_what_is_taken(shared, wanted, rule, expected):
    assert taken(shared, wanted, rule) == expected
    assert expected.of(torch.zeros(shared)).shape == wanted


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_slice_of_several_axes_has_the_gradient_of_torchs_indexing(layout):
    bank = torch.randn(8, 4, 5, 5).contiguous(memory_format=layout).requires_grad_()
    own = taken(bank.shape, (6, 3, 3, 3), KERNEL).of(bank)
    assert type(own.grad_fn).__name__ == "AsStridedBackward0"
    indexed = bank[:6, :3, 1:4, 1:4]
    assert torch.equal(own, indexed)
    factors = torch.randn(own.shape)
    ours, theirs = (torch.autograd.grad((part * factors).sum(), bank) for part in (own, indexed))
    assert torch.equal(*ours, *theirs)


def test_a_smaller_kernel_is_the_centre():
    bank = torch.arange(25.0).reshape(1, 1, 5, 5)
    found = taken(bank.shape, (1, 1, 3, 3), KERNEL).of(bank)
    assert found.flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]


def test_a_single_kernel_is_the_mean_of_the_bank():
    bank = torch.tensor([[[1.0, 2.0]], [[5.0, 10.0]]])
    assert taken(bank.shape, (1, 2), mean()).of(bank).tolist() == [[3.0, 6.0]]


def test_groups_keep_their_own():
    """Of queries, keys and values with 2 heads of 3, those of 1 head of 2."""
    wide, narrow = (lay_out((3 * heads * size,), groups(3, heads)) for heads, size in ((2, 3), (1, 2)))
    room = joined_room(joined_room(None, wide), narrow)
    shared = torch.arange(18).reshape(3, 2, 3)
    assert slice_of(room, wide).of(shared).tolist() == list(range(18))
    assert slice_of(room, narrow).of(shared).tolist() == [0, 1, 6, 7, 12, 13]


def test_heads_and_their_size_may_grow_against_each_other():
    """One head of 4 and two heads of 2 need room for two heads of 4."""
    one, two = lay_out((4,), groups(1)), lay_out((4,), groups(2))
    room = joined_room(joined_room(None, one), two)
    shared = torch.arange(8).reshape(2, 4)
    assert slice_of(room, one).of(shared).tolist() == [0, 1, 2, 3]
    assert slice_of(room, two).of(shared).tolist() == [0, 1, 4, 5]


def test_each_part_of_a_concatenation_takes_its_own():
    wide, narrow = lay_out((1, 7), parts(3, 4, axis=1)), lay_out((1, 6), parts(1, 5, axis=1))
    room = joined_room(joined_room(None, wide), narrow)
    assert [axis.size for axis in room] == [1, 8]
    shared = torch.arange(8)[None]
    assert slice_of(room, wide).of(shared).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert slice_of(room, narrow).of(shared).tolist() == [[0, 3, 4, 5, 6, 7]]


def test_listed_indices():
    some = lay_out((3, 2), indices([4, 0, 2]))
    room = joined_room(None, some)
    assert [axis.size for axis in room] == [5, 2]
    assert slice_of(room, some).of(torch.arange(10).reshape(5, 2)).tolist() == [[8, 9], [0, 1], [4, 5]]


@pytest.mark.parametrize("wanted", [(9, 4), (8, 4, 1), (4,)])
def test_a_shape_that_does_not_fit_is_refused(wanted):
    room = joined_room(None, lay_out((8, 4)))
    with pytest.raises(SpaceError, match=r"is no slice of the shared shape \(8, 4\)"):
        slice_of(room, lay_out(wanted))


class _Attention(nn.Module):
    elastic: ClassVar = {"qkv.*": groups(3, "heads")}

    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(6, 12)


class _Around(nn.Module):
    def __init__(self, elastic=None):
        super().__init__()
        if elastic is not None:
            self.elastic = elastic
        self.inner = _Attention(2)
        self.conv = nn.Conv2d(3, 4, 5)
        self.odd = nn.Parameter(torch.zeros(3, 4, 5, 5))


def test_the_owner_of_a_tensor_decides():
    found = {name: layout.axes for name, layout in layouts(_Around()).items()}
    assert [axis.centred for axis in found["conv.weight"]] == [False, False, True, True]
    assert [axis.centred for axis in found["odd"]] == [False] * 4
    assert [axis.size for axis in found["inner.qkv.weight"]] == [3, 2, 2, 6]


def test_the_outermost_declaration_wins():
    found = layouts(_Around({"inner.qkv.weight": leading, "odd": centre(2)}))
    assert [axis.size for axis in found["inner.qkv.weight"].axes] == [12, 6]
    assert [axis.size for axis in found["inner.qkv.bias"].axes] == [3, 2, 2]
    assert [axis.centred for axis in found["odd"].axes] == [False, False, True, False]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (groups(5), "an axis of 12 cannot be seen as groups of 5"),
        (groups("head"), "no attribute 'head' in Linear in _Attention in _Around"),
        (parts(3, 4), r"an axis of 12 is not made of parts of 3 \+ 4"),
        (indices([1, 2]), "an axis of 12 cannot have the 2 indices"),
        (centre(3), "there is no axis 3 in a shape of 1 axes"),
        ("leading", "allowed are the rules of dynnas.nn.slicing"),
    ],
)
def test_a_rule_that_does_not_fit_names_the_tensor(rule, message):
    with pytest.raises(SpaceError, match=message):
        layouts(_Around({"inner.qkv.bias": rule}))


def test_torchs_fused_layers_are_known():
    found = layouts(nn.MultiheadAttention(8, 4))
    assert [axis.size for axis in found["in_proj_weight"].axes] == [3, 4, 2, 8]
    assert [axis.size for axis in found["out_proj.weight"].axes] == [8, 4, 2]
    assert [axis.size for axis in layouts(nn.LSTM(3, 5))["weight_hh_l0"].axes] == [4, 5, 5]
    assert [axis.size for axis in layouts(nn.GRU(3, 5))["bias_ih_l0"].axes] == [3, 5]
