"""The gradients of PReLU (He et al. 2015, arXiv:1502.01852).

torch computes them on a processor number by number, which takes as long as a convolution; vectorised steps
take a sixth of that. In bfloat16 its forward pass is as slow where channels lie last and there are few.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def prelu(x: Tensor, slopes: Tensor) -> Tensor:
    """Return `x` where it is positive, and elsewhere `x` times its channel's slope.

    Args:
        x: (B, C, ...), or (N,) for a single slope. slopes: (C,) or (1,), of the type of `x`.
    """
    found: Tensor = _PReLU.apply(x, slopes)
    return found


class _PReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slopes: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16:
            return torch.prelu(x, slopes)
        above = x.relu()
        return above + (x - above) * _spread(slopes, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, slopes = ctx.saved_tensors
        to_x, to_slopes = ctx.needs_input_grad
        above = torch.ops.aten.threshold_backward(gradient, x, 0)
        below = gradient - above
        others = [axis for axis in range(x.dim()) if axis != 1 or len(slopes) == 1]
        return (
            above + below * _spread(slopes, x) if to_x else None,
            (below * x).sum(others).view_as(slopes) if to_slopes else None,
        )


def _spread(slopes: Tensor, x: Tensor) -> Tensor:
    """Return the slopes in a shape that meets the channels of `x`."""
    return slopes.view(-1, *[1] * (x.dim() - 2)) if len(slopes) > 1 else slopes
