"""Attention of torch in steps that counters, recorders and exporters see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stepwise_attention() -> Iterator[None]:
    """Run `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` in steps for as long as the context lasts.

    In eval mode torch otherwise runs each as one operator of its own.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
