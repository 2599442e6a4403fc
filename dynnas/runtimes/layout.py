"""The memory layout of kernels."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(module: nn.Module) -> None:
    """Lay the kernels of `module` out channels-last, in place, for inputs that are.

    Not `module.to(memory_format=...)`, which fails on banks of experts: those have five axes, and a
    kernel mixed from them gets its layout when it is used.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
