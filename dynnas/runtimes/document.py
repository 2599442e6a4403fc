"""A document: JSON beside arrays, in bytes that can be read without trust.

Four bytes with the length of the JSON (big-endian), the JSON, then the arrays as they lie in memory (little-
endian, C order). Nothing in it is executed, unlike in a pickle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dynnas.errors import DynnasError

DTYPES = ("uint8", "bool", "int32", "int64", "float16", "float32", "float64")
MOST_JSON = 2**20
MOST_ARRAYS = 10_000
MOST_AXES = 8


class DocumentError(DynnasError):
    """Raised for bytes that are no document."""


def write_document(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> bytes:
    """Return the bytes of a document; arrays are of `DTYPES`."""
    arrays = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    forms = [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]
    text = json.dumps({"header": header, "arrays": forms}).encode()
    little = (array.astype(array.dtype.newbyteorder("<"), copy=False) for array in arrays.values())
    return b"".join((len(text).to_bytes(4, "big"), text, *(array.tobytes() for array in little)))


def read_document(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays, which may be written to.

    Raises:
        DocumentError: `data` is not what `write_document` gives.
    """
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 or not 0 < length <= min(MOST_JSON, len(data) - 4):
        raise DocumentError(f"a document of {len(data)} bytes says that {length} of them are its JSON")
    try:
        document = json.loads(data[4 : 4 + length])
        header, forms = document["header"], [_form(*form) for form in document["arrays"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DocumentError(f"a document's JSON is not as it should be: {error!r}"[:300]) from error
    if not isinstance(header, dict) or len(forms) > MOST_ARRAYS:
        raise DocumentError(f"a document has {len(forms)} arrays, and a {type(header).__name__} as header")
    rest = memoryview(data)[4 + length :]
    if sum(size for *_, size in forms) != len(rest):
        raise DocumentError(f"a document's arrays should have another length than {len(rest)} bytes")
    arrays, at = {}, 0
    for name, dtype, shape, size in forms:
        array = np.frombuffer(rest[at : at + size], dtype.newbyteorder("<"))
        arrays[name] = array.astype(dtype).reshape(shape)
        at += size
    return header, arrays


def _form(name: object, kind: object, shape: object) -> tuple[str, np.dtype[Any], tuple[int, ...], int]:
    """Return an array's name, type, shape and size in bytes.

    Raises:
        ValueError: one of them is not allowed.
    """
    if not isinstance(name, str) or kind not in DTYPES:
        raise ValueError(f"{name!r} is {kind!r}")
    if not isinstance(shape, list) or len(shape) > MOST_AXES:
        raise ValueError(f"{name!r} has the shape {shape!r}")
    if not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        raise ValueError(f"{name!r} has the shape {shape!r}")
    dtype = np.dtype(str(kind))
    return name, dtype, tuple(shape), math.prod(shape) * dtype.itemsize
