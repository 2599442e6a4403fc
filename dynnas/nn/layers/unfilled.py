"""Modules that are built without values, to see what they have and what they would compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_FILLING = {
    *(getattr(torch.Tensor, name) for name in ("normal_", "uniform_", "zero_", "fill_")),
    *(value for name, value in vars(nn.init).items() if name.endswith("_") and not name.startswith("_")),
}


class _Unfilled(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLING:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def unfilled() -> Iterator[None]:
    """Build modules on the meta device for as long as the context lasts.

    Tensors are left as they are where a module would fill them: on the meta device torch works out what a
    draw would do, op by op, which takes longer than all else that building a module does.
    """
    with torch.device("meta"), _Unfilled():
        yield
