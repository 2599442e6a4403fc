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
    """Decode the first `size` symbols of `content`, a byte at a time.

    What a byte says depends on the node of the codes' tree at which it begins: it is looked up by the two,
    in a table whose entries are made when they are first needed.

    Raises:
        ValueError: it ends before, or holds what is no code.
    """
    tree = _tree(lengths)
    table: dict[tuple[int, int], tuple[list[int], int]] = {}
    symbols: list[int] = []
    node = 0
    for byte in content:
        if len(symbols) >= size:
            break
        entry = table.get((node, byte))
        if entry is None:
            entry = table[node, byte] = _walk(tree, node, byte)
        symbols += entry[0]
        node = entry[1]
    if len(symbols) < size:
        raise ValueError(f"found {len(symbols)} of {size} symbols")
    return np.array(symbols[:size], dtype=np.int64)


def _walk(tree: list[list[int]], node: int, byte: int) -> tuple[list[int], int]:
    """Return the symbols that end within a byte's bits, from `node` of the tree on, and the node after it."""
    symbols = []
    for place in range(7, -1, -1):
        node = tree[node][byte >> place & 1]
        if node == _NOWHERE:
            raise ValueError("no Huffman code begins like this")
        if node < 0:
            symbols.append(~node)
            node = 0
    return symbols, node


_NOWHERE = -(2**62)
"""The mark of a place in a tree at which no code goes on."""


def _tree(lengths: np.ndarray) -> list[list[int]]:
    """Return the tree of the codes: for each node the next ones by bit; `~symbol` where a code ends."""
    codes = _codes(lengths)
    tree = [[_NOWHERE, _NOWHERE]]
    for symbol in np.flatnonzero(lengths).tolist():
        node, code = 0, int(codes[symbol])
        for place in range(int(lengths[symbol]) - 1, -1, -1):
            bit = code >> place & 1
            if place == 0:
                tree[node][bit] = ~symbol
            else:
                if tree[node][bit] == _NOWHERE:
                    tree[node][bit] = len(tree)
                    tree.append([_NOWHERE, _NOWHERE])
                node = tree[node][bit]
    return tree


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
