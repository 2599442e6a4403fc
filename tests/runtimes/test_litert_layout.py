"""Values whose axes lie in another order: what a reshape keeps without a copy is what numpy says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynnas.runtimes.litert.layout import CHANNELS_LAST, laid, plain, regrouped, transposed, without_ones


@pytest.mark.parametrize(
    ("shape", "new", "order", "expected"),
    [
        ((1, 8, 4, 4), (1, 8, 16), CHANNELS_LAST, (0, 2, 1)),  # pixels in a row, channels still last
        ((1, 16, 8), (1, 4, 4, 8), (0, 2, 1), (0, 3, 1, 2)),
        ((1, 8, 4, 4), (1, 2, 4, 4, 4), CHANNELS_LAST, (0, 3, 4, 1, 2)),  # groups of channels
        ((1, 8, 1, 1), (1, 8), CHANNELS_LAST, (0, 1)),
        ((1, 8, 4, 4), (1, 128), CHANNELS_LAST, None),
        ((2, 3), (3, 2), (1, 0), None),
    ],
)
def test_reshaping_keeps_the_order_where_it_can(shape, new, order, expected):
    found = regrouped(shape, new, order)
    if found is None or expected is None:
        assert found == expected
    else:
        assert without_ones(new, found) == without_ones(new, expected)


@st.composite
def reshapes(draw):
    factors = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))

    def merged():
        cuts = draw(st.lists(st.booleans(), min_size=len(factors) - 1, max_size=len(factors) - 1))
        shape = [factors[0]]
        for factor, cut in zip(factors[1:], cuts, strict=True):
            if cut:
                shape.append(factor)
            else:
                shape[-1] *= factor
        return tuple(shape)

    shape, new = merged(), merged()
    return shape, new, tuple(draw(st.permutations(plain(len(shape)))))


@given(reshapes())
def test_what_lies_in_memory_is_what_numpy_reshapes(case):
    shape, new, order = case
    values = np.arange(np.prod(shape)).reshape(shape)
    kept = regrouped(shape, new, order)
    if kept is not None:
        assert sorted(kept) == [*plain(len(new))]
        memory = values.transpose(order).reshape(laid(new, kept))
        assert np.array_equal(memory, values.reshape(new).transpose(kept))


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_transposing_moves_nothing(axes, order):
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    moved = values.transpose(axes)
    assert np.array_equal(values.transpose(order), moved.transpose(transposed(tuple(order), axes)))
