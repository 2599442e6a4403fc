"""Batch-norm statistics apart from their network: they can be sent, kept, and given to another network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

Statistics = Mapping[str, np.ndarray]
"""Buffers of batch norms, by name; empty for a network without batch norms."""

_NAMES = ("running_mean", "running_var", "num_batches_tracked")


class StatisticsStore(Protocol):
    """Keeps packed statistics by the key of their network and by all else that they depend on."""

    def read_statistics(self, key: str, provenance: str) -> bytes | None:
        """Return the statistics of that key, or None."""
        ...

    def write_statistics(self, key: str, provenance: str, packed: bytes) -> None:
        """Store `packed`, in place of what was there."""
        ...


def statistics_of(network: nn.Module) -> Statistics:
    """Return the statistics of all batch norms of `network`, as copies."""
    return {
        name: buffer.detach().cpu().numpy().copy()
        for name, buffer in network.named_buffers()
        if name.endswith(_NAMES)
    }


def restore_statistics(network: nn.Module, statistics: Statistics) -> None:
    """Give `network` the statistics of a network of the same architecture; in place."""
    buffers = dict(network.named_buffers())
    for name, value in statistics.items():
        buffers[name].copy_(torch.from_numpy(np.array(value)))


def pack_statistics(statistics: Statistics) -> bytes:
    """Return the statistics as bytes, which `unpack_statistics` reads back."""
    file = io.BytesIO()
    named: dict[str, Any] = dict(statistics)
    np.savez(file, **named)
    return file.getvalue()


def unpack_statistics(packed: bytes) -> Statistics:
    """Return the statistics that `pack_statistics` wrote.

    Raises:
        ValueError: the bytes are something else.
    """
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
