"""Documents: what was written is read, and nothing else is."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dynnas.runtimes.document import DTYPES, DocumentError, read_document, write_document

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ARRAYS = arrays.arrays(st.sampled_from(DTYPES), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))


@given(
    st.dictionaries(st.text(max_size=4), JSON, max_size=4),
    st.dictionaries(st.text(max_size=4), ARRAYS, max_size=3),
)
@settings(deadline=None, max_examples=60)
def test_what_was_written_is_read(header, given):
    read_header, read = read_document(write_document(header, given))
    assert read_header == header
    assert list(read) == list(given)
    for name, array in given.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_other_bytes_are_refused(data):
    with pytest.raises(DocumentError, match="document"):
        read_document(data)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damage_is_refused_or_harmless(data):
    whole = bytearray(write_document({"ask": "time"}, {"a": np.arange(6.0), "b": np.ones((2, 3), np.uint8)}))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        _, read = read_document(bytes(whole[: data.draw(st.integers(at, len(whole)))]))
    except DocumentError:
        return
    assert sum(array.nbytes for array in read.values()) == 54


def test_neither_pickles_nor_objects_travel():
    with pytest.raises(DocumentError, match="not as it should be"):
        read_document(write_document({}, {"a": np.zeros(1)}).replace(b"float64", b"object_"))
    with pytest.raises(DocumentError, match="document"):
        read_document(pickle.dumps({"header": {}, "arrays": []}))
