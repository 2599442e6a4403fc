"""The slicing rule, against shapes worked out by hand."""

import pytest
import torch

from dynnas.supernet.elastic import Cut, cut


@pytest.mark.parametrize(
    ("shared", "wanted", "expected"),
    [
        ((8, 4), (8, 4), Cut(None)),
        ((8, 4), (5, 3), Cut((slice(0, 5), slice(0, 3)))),
        ((8,), (2,), Cut((slice(0, 2),))),
        ((8, 4, 5, 5), (6, 4, 3, 3), Cut((slice(0, 6), slice(0, 4), slice(1, 4), slice(1, 4)))),
        ((8, 4, 7, 7), (8, 4, 3, 3), Cut((slice(0, 8), slice(0, 4), slice(2, 5), slice(2, 5)))),
        ((4, 6, 1, 5, 5), (6, 1, 5, 5), Cut(None, averaged=1)),
        (
            (4, 8, 1, 5, 5),
            (6, 1, 3, 3),
            Cut((slice(None), slice(0, 6), slice(0, 1), slice(1, 4), slice(1, 4)), averaged=1),
        ),
        (
            (4, 8, 1, 5, 5),
            (2, 6, 1, 3, 3),
            Cut((slice(0, 2), slice(0, 6), slice(0, 1), slice(1, 4), slice(1, 4))),
        ),
        (
            (3, 4, 5, 5, 5, 5),
            (3, 2, 3, 3, 3, 3),
            Cut((slice(0, 3), slice(0, 2), slice(1, 4), slice(1, 4), slice(1, 4), slice(1, 4))),
        ),
        ((), (), Cut(None)),
    ],
)
def test_cut(shared, wanted, expected):
    assert cut(shared, wanted) == expected
    assert expected.of(torch.zeros(shared)).shape == wanted


def test_a_smaller_kernel_is_the_centre():
    bank = torch.arange(25.0).reshape(1, 1, 5, 5)
    centre = cut(bank.shape, (1, 1, 3, 3)).of(bank)
    assert centre.flatten().tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]


def test_a_single_kernel_is_the_mean_of_the_bank():
    bank = torch.tensor([[[1.0, 2.0]], [[5.0, 10.0]]])
    assert cut(bank.shape, (1, 1)).of(bank).tolist() == [[3.0]]


@pytest.mark.parametrize("wanted", [(9, 4), (8, 4, 1), (1, 8, 4)])
def test_a_shape_that_does_not_fit_is_refused(wanted):
    with pytest.raises(ValueError, match=r"no slice of the shared shape \(8, 4\)"):
        cut((8, 4), wanted)
