"""The device that trains."""

from __future__ import annotations

import torch

from dynnas.errors import TargetError


def usable_device(device: str) -> str:
    """Return the name of a torch device that this machine has.

    Args:
        device: "cpu", "cuda", or one of several GPUs such as "cuda:1".

    Raises:
        TargetError: it is a GPU, and torch sees none here.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TargetError(
            f"target: device is {device!r}, but torch sees no CUDA device here; take device cpu, or go on "
            "where there is a GPU and a CUDA build of torch"
        )
    return device
