"""Torch's operators in a form that graphs have, where torch itself would run one of a kind of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dynnas.nn.layers.stepwise import stepwise_attention

_SHUFFLES = (torch.channel_shuffle, torch.native_channel_shuffle)


@contextmanager
def decomposed() -> Iterator[None]:
    """Run attention of torch step by step, and shuffle channels by views, for as long as the context lasts.

    In eval mode `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` are one operator each, and so is
    `channel_shuffle`; the exporter knows none of them.
    """
    with stepwise_attention(), _Views():
        yield


class _Views(TorchFunctionMode):
    """Writes operators as views that do the same."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _SHUFFLES:
            return _shuffled(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _shuffled(input: Tensor, groups: int) -> Tensor:
    """Map (B, C, ...) to the same channels, the first of each group first."""
    shape = input.shape
    parts = input.reshape(shape[0], groups, shape[1] // groups, *shape[2:])
    return parts.transpose(1, 2).reshape(shape)
