"""The multiply-adds of a module, counted while it runs.

torch's counter sees convolutions and matrix products. A module with other arithmetic worth counting says how
much in `unseen_macs(x)`: multiply-adds for an input `x`, beside those that the counter sees. By convention
additions, plain activations, pooling, residuals, gates and batch norm (which folds away) count as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dynnas.nn.layers.stepwise import stepwise_attention

Shape = Sequence[int]


@runtime_checkable
class CountsItself(Protocol):
    """A module with arithmetic that torch's counter does not see."""

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds for the input `x`, which may have any shape; its values do not matter."""
        ...


def _of_recurrent_layer(seen: Shape, incoming: Shape, recurrent: Shape, *_: Any, **__: Any) -> int:
    """Return the operations of oneDNN's LSTM on (T, B, inputs), by the shapes of both of its matrices."""
    return 2 * seen[0] * seen[1] * (math.prod(incoming) + math.prod(recurrent))


def _of_three_factors(*given: Any, **_: Any) -> int:
    """Return the operations of `nn.Bilinear`: one multiply-add for each triple of numbers."""
    lengths: dict[int, int] = {}
    for shape, added in zip(given[:3], given[3:6], strict=True):
        own = (at for at in range(len(shape) + len(added)) if at not in added)
        lengths |= dict(zip(own, shape, strict=True))
    return 2 * math.prod(lengths.values())


UNKNOWN = {
    torch.ops.aten.mkldnn_rnn_layer: _of_recurrent_layer,
    torch.ops.aten._trilinear: _of_three_factors,
}
"""Operators that torch's counter does not know, with functions from shapes to operations."""


@torch.no_grad()
def count_macs(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Run `module` on `x`, of any shape and perhaps on the meta device; return output and multiply-adds."""
    unseen = 0

    def add(part: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal unseen
        assert isinstance(part, CountsItself)
        unseen += part.unseen_macs(inputs[0])

    parts = [part for part in module.modules() if isinstance(part, CountsItself)]
    hooks = [part.register_forward_pre_hook(add) for part in parts]
    try:
        # On a CPU torch's counter does not know the fused attention.
        with (
            stepwise_attention(),
            FlopCounterMode(display=False, custom_mapping=UNKNOWN) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):
            y = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    # torch reports two operations for each multiply-add.
    return y, counter.get_total_flops() // 2 + unseen
