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
        if ours is not None and torch.is_grad_enabled() and _differentiated(*args, *given.values()):
            found = ours(*args, **given)
            if found is not None:
                return found
        return func(*args, **given)


def _differentiated(*given: Any) -> bool:
    """Return whether any of the arguments wants a gradient, and all tensors are on a processor."""
    tensors = [each for each in given if isinstance(each, Tensor)]
    return all(each.device.type == "cpu" for each in tensors) and any(each.requires_grad for each in tensors)


def _prelu(input: Tensor, weight: Tensor) -> Tensor | None:
    """Return what PReLU gives, in the type of autocast if that is on."""
    if not torch.is_autocast_enabled("cpu"):
        return prelu(input, weight)
    kind = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        return prelu(input.to(kind), weight.to(kind))


_OURS: Mapping[Any, Callable[..., Tensor | None]] = {
    torch.prelu: _prelu,
    **{each: partial(convolved, each) for each in (torch.conv1d, torch.conv2d, torch.conv3d)},
}
