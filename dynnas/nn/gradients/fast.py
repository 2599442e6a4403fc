"""The context in which operators of torch get gradients of ours where these are faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dynnas.nn.gradients.depthwise import convolved
from dynnas.nn.gradients.prelu import prelu


class FastGradients(TorchFunctionMode):
    """A context in which operators on a processor have the fastest gradients known here, in any module.

    What they compute is the same, up to rounding. Where nothing is differentiated, nothing is changed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what stands for it."""
        given = kwargs or {}
        ours = _OURS.get(func)
        kind = None if ours is None else _kind(*args, *given.values())
        if ours is not None and kind is not None:
            with torch.autocast("cpu", enabled=False):
                found = ours(kind, *args, **given)
            if found is not None:
                return found
        return func(*args, **given)


def _kind(*given: Any) -> torch.dtype | None:
    """Return the type in which torch computes with tensors among the arguments, or None if not for us.

    It is for us if something is differentiated, on a processor, in float32 or bfloat16.
    """
    tensors = [each for each in given if isinstance(each, Tensor)]
    if not torch.is_grad_enabled() or not any(each.requires_grad for each in tensors):
        return None
    kinds = {each.dtype for each in tensors}
    if any(each.device.type != "cpu" for each in tensors) or not kinds <= {torch.float32, torch.bfloat16}:
        return None
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return kinds.pop() if len(kinds) == 1 else None  # of several torch says what is wrong


def _prelu(kind: torch.dtype, input: Tensor, weight: Tensor) -> Tensor:
    """Return what PReLU gives, computed in a type."""
    return prelu(input.to(kind), weight.to(kind))


_OURS: Mapping[Any, Callable[..., Tensor | None]] = {
    torch.prelu: _prelu,
    **{each: partial(convolved, each) for each in (torch.conv1d, torch.conv2d, torch.conv3d)},
}
