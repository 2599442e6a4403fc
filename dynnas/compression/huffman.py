"""Huffman codes (Huffman 1952) in canonical form: only the lengths of the codes are stored."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np


def code_lengths(frequencies: np.ndarray) -> np.ndarray:
    """Return the length in bits of each symbol's code (S,); 0 for symbols that do not occur."""
    lengths = np.zeros(len(frequencies), dtype=np.uint8)
    ties = count()
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(often), next(ties), (symbol,)) for symbol, often in enumerate(frequencies) if often
    ]
    if len(heap) == 1:
        lengths[heap[0][2][0]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        symbols = first[2] + second[2]
        lengths[list(symbols)] += 1
        heapq.heappush(heap, (first[0] + second[0], next(ties), symbols))
    return lengths


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """Encode `symbols` (N,) one after the other, most significant bit first, filled up with zeros."""
    if not len(symbols):
        return b""
    codes = _codes(lengths)
    sizes = lengths[symbols].astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    which = np.repeat(np.arange(len(symbols)), sizes)
    place = np.arange(len(which)) - starts[which]
    bits = (codes[symbols[which]] >> (sizes[which] - 1 - place)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def decode(content: bytes, lengths: np.ndarray, size: int) -> np.ndarray:
    """Decode the first `size` symbols of `content`.

    Raises:
        ValueError: it ends before, or holds what is no code.
    """
    codes = _codes(lengths)
    known = {(int(lengths[symbol]), int(codes[symbol])): symbol for symbol in np.flatnonzero(lengths)}
    longest = int(lengths.max(initial=0))
    symbols = np.empty(size, dtype=np.int64)
    found = code = length = 0
    for bit in np.unpackbits(np.frombuffer(content, dtype=np.uint8)).tolist():
        if found == size:
            break
        code, length = code << 1 | bit, length + 1
        symbol = known.get((length, code))
        if symbol is not None:
            symbols[found] = symbol
            found += 1
            code = length = 0
        elif length > longest:
            raise ValueError("no Huffman code begins like this")
    if found < size:
        raise ValueError(f"found {found} of {size} symbols")
    return symbols


def _codes(lengths: np.ndarray) -> np.ndarray:
    """Return the canonical codes: ascending with length, then with the symbol."""
    codes = np.zeros(len(lengths), dtype=np.int64)
    code = before = 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if length:
            code <<= length - before
            codes[symbol] = code
            code, before = code + 1, length
    return codes
