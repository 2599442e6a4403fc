"""The selection of the way in which a mixed convolution runs: by measurements if there are any, else by rule.

No convolution measures itself. A trial in the middle of training would be a pause that nobody asked for,
its outcome would depend on what else the machine did just then, and two runs of one search could differ in
the last digits without a reason that could be told. `dynnas tune` measures once and its file remembers;
without one the rule holds, which is the same on every machine. Only what was measured is looked up: another
batch or size follows the rule, and so does what is recorded in a graph. The file is read once in a process.

The rule is of these measurements (AVX-512 processor, 1 MiB of cache a core, one thread, K = 4 where nothing
else is said; processor time, as others used the machine):

- one image: the ordinary convolution (a matrix product instead gains nothing);
- pointwise: one batched product, which reads the images as they lie (a convolution lays them out again
  before and after) and runs backward as two more;
- everything else: the grouped convolution, which runs at the speed of a static one (dense 64 -> 64 at
  28x28: 45 of the 51 GMAC/s that a core has). Unfolding is 2 to 5 times slower;
- where the kernels pass 32 MiB (16 for products), in pieces: the C library gives such blocks back to the
  system each time, and the kernels leave the cache. Dense 512 -> 512 at 7x7, 16 images: 260 -> 130 ms;
  pointwise 512 -> 512 at 7x7, 128 images: 167 -> 82 ms. Large images go as a whole: in pieces they took
  from 0.6 to 1.2 times the time (depthwise 64 at 28x28, 128 images, backward), as the C library happened to
  keep memory or not. That is for `dynnas tune` to find;
- conv-first does M * S multiply-adds for every weight. A kernel of one's own costs S and, once kernels are
  larger than the cache, about the time of 100 more to mix, write, lay out and read the weight: so it wins
  for (M - 1) * S < 100: dense 512 -> 512 at 7x7, 16 images, takes 62 ms instead of 110 with two experts,
  and 150 instead of 136 with four. Products read the weights as they lie: 94 ms against 121 with two
  experts, so never there.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from dynnas.nn.context import Trace
from dynnas.nn.dynamic_conv.tuned import Problem, Way, tuned_ways
from dynnas.nn.layers.conv_shape import ConvShape

PIECE, PRODUCT_PIECE = 2**21, 2**20
"""Floats in the kernels and images of one piece, and of one of products: 8 and 4 MiB."""

KERNELS_IN_ONE, PRODUCTS_IN_ONE = 2**23, 2**22
"""Floats in the kernels of a batch that still runs as a whole, of convolutions and of products."""

WEIGHT_COST = 100
"""Multiply-adds that a core does in the time that one more weight of a kernel per image takes."""


def images_at_a_time(shape: ConvShape, size: tuple[int, int]) -> int:
    """Return how many images of `size` make a piece, so that it stays in the cache."""
    kernel = math.prod(shape.weight)
    if shape.pointwise:
        return max(1, PRODUCT_PIECE // kernel)
    return max(1, PIECE // (kernel + shape.in_channels * math.prod(size) + _outputs(shape, size)))


def by_rule(shape: ConvShape, batch: int, size: tuple[int, int], experts: int, device: str) -> Way:
    """Choose the way by rule, without a measurement.

    Args:
        shape: the geometry. batch, size: of the images. experts: in the bank, or 0 where there is none.
        device: torch's type of device. The rule for others than CPUs is not measured: all in one call.
    """
    if batch == 1:
        return "plain"
    kernels = math.prod(shape.weight) * batch
    too_large = kernels > (PRODUCTS_IN_ONE if shape.pointwise else KERNELS_IN_ONE)
    pixels = _outputs(shape, size) // shape.out_channels
    if device != "cpu":
        return "whole"
    if experts and too_large and not shape.pointwise and (experts - 1) * pixels < WEIGHT_COST:
        return "wide"
    return "pieces" if too_large else "whole"


def _outputs(shape: ConvShape, size: tuple[int, int]) -> int:
    return shape.out_channels * math.prod(map(shape.size_after, size))


def choose(
    x: Tensor, bank: Tensor, coefficients: Tensor | None, shape: ConvShape, trace: Trace | None = None
) -> Way:
    """Choose the way for images `x` (B, Ci, H, W); without coefficients, `bank` holds the kernels themselves.

    Of more than one image, the `Problem` is recorded in the trace.
    """
    batch, _, height, width = x.shape
    if batch == 1:
        return "plain"
    device = x.device.type
    asked = (
        shape,
        batch,
        (height, width),
        0 if coefficients is None else bank.shape[0],
        coefficients is not None and coefficients.dim() == 3,
        torch.is_grad_enabled() and (x.requires_grad or bank.requires_grad),
        x.is_contiguous(),
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype,
        device,
        torch.get_num_threads(),
    )
    if trace is not None and trace.wants(Problem):
        trace.record(_problem(asked))
    return way_for(asked)


_Asked = tuple[ConvShape, int, tuple[int, int], int, bool, bool, bool, torch.dtype, str, int]
"""The fields of a `Problem` in their order, as torch gives them: quicker to look up."""


@lru_cache(maxsize=4096)
def way_for(asked: _Asked) -> Way:
    """Choose the way by what decides on it, and remember it: a second call takes two microseconds."""
    problem = _problem(asked)
    rule = by_rule(problem.shape, problem.batch, problem.size, problem.experts, problem.device)
    return tuned_ways().get(problem.key, rule)


def _problem(asked: _Asked) -> Problem:
    return Problem(*asked[:7], str(asked[7]).removeprefix("torch."), *asked[8:])


def is_recorded() -> bool:
    """Return whether a graph is being recorded.

    Sizes may then be no numbers, and code cannot branch on them.
    """
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
