"""The slicing rule, against shapes worked out by hand."""

import pytest
import torch

from dynnas.ops.elastic import slice_index


@pytest.mark.parametrize(
    ("shared", "wanted", "expected"),
    [
        ((8, 4), (8, 4), None),
        ((8, 4), (5, 3), (slice(0, 5), slice(0, 3))),
        ((8,), (2,), (slice(0, 2),)),
        ((8, 4, 5, 5), (6, 4, 3, 3), (slice(0, 6), slice(0, 4), slice(1, 4), slice(1, 4))),
        ((8, 4, 7, 7), (8, 4, 3, 3), (slice(0, 8), slice(0, 4), slice(2, 5), slice(2, 5))),
        ((4, 8, 1, 5, 5), (6, 1, 5, 5), (0, slice(0, 6), slice(0, 1), slice(0, 5), slice(0, 5))),
        ((4, 8, 1, 5, 5), (2, 6, 1, 3, 3), (slice(0, 2), slice(0, 6), slice(0, 1), slice(1, 4), slice(1, 4))),
        ((), (), None),
    ],
)
def test_slice_index(shared, wanted, expected):
    assert slice_index(shared, wanted) == expected


def test_slice_of_a_kernel_is_its_centre():
    bank = torch.arange(25.0).reshape(1, 1, 5, 5)
    centre = bank[slice_index(bank.shape, (1, 1, 3, 3))]
    assert centre.flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]


@pytest.mark.parametrize("wanted", [(9, 4), (8, 4, 1), (1, 8, 4)])
def test_a_shape_that_does_not_fit_is_refused(wanted):
    with pytest.raises(ValueError, match=r"no slice of the shared shape \(8, 4\)"):
        slice_index((8, 4), wanted)
