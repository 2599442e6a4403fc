"""Mixed convolutions a few images at a time, so that their kernels never leave the processor's cache.

A kernel for each image can be far more bytes than the images: 16 MiB for 16 images of 512 -> 512 pointwise,
1.2 GB for 128 images of 512 -> 512 dense 3x3. Written to memory, read back, laid out again by the
convolution, and read again in the backward pass, they cost more than the arithmetic; and blocks above 32
MiB are given back to the system and cleared again at each step (a page fault for every 4 KiB). Here a piece
of the batch is mixed, used, and forgotten. The backward pass mixes it again, which takes M / S of the
convolution's multiply-adds, and sums the bank's gradient piece by piece.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dynnas.nn.layers.conv_shape import ConvShape, convolve


def conv_in_pieces(
    x: Tensor, bank: Tensor, coefficients: Tensor | None, shape: ConvShape, images: int
) -> Tensor:
    """Return the mixed convolution without a bias, in the memory format of `x`.

    Differentiable once. Under autocast it computes in the autocast's precision, as convolutions do.

    Args:
        x: (B, Ci, H, W).
        bank: (M, Co, Ci / groups, k, k); without coefficients every image's own kernel, with B for M.
        coefficients: (B, M), (B, Co, M), or None.
        shape: the geometry.
        images: how many go at a time.

    Returns:
        (B, Co, H', W').
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        to = torch.get_autocast_dtype(device)
        x, bank = x.to(to), bank.to(to)
        coefficients = None if coefficients is None else coefficients.to(to)
    with torch.autocast(device, enabled=False):
        inputs = [x, bank] if coefficients is None else [x, bank, coefficients]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return _Pieces.apply(x, bank, coefficients, shape, images)
        return _forward(x, bank, coefficients, shape, images)


def _forward(x: Tensor, bank: Tensor, coefficients: Tensor | None, shape: ConvShape, images: int) -> Tensor:
    x = _strided(x, shape)
    # Of a pointwise convolution, nothing but the pixels that it sees are left.
    size = [length if shape.pointwise else shape.size_after(length) for length in x.shape[2:]]
    layout = torch.channels_last if _channels_last(x) else torch.contiguous_format
    y = torch.empty(
        (x.shape[0], shape.out_channels, *size), dtype=x.dtype, device=x.device, memory_format=layout
    )
    mixer = _Mixer(bank, coefficients, shape, images)
    for start in range(0, x.shape[0], images):
        piece = slice(start, start + images)
        _piece_forward(x[piece], mixer.kernels(piece), shape, y[piece])
    return y


class _Mixer:
    """Mixes the kernels of one piece of a batch at a time, in one buffer, and passes their gradients back."""

    def __init__(self, bank: Tensor, coefficients: Tensor | None, shape: ConvShape, images: int) -> None:
        self._bank, self._coefficients, self._shape = bank, coefficients, shape
        self._per_channel = coefficients is not None and coefficients.dim() == 3
        if coefficients is not None:
            # Experts as rows; of every output channel by itself, if that is how they are mixed.
            self._rows = bank.flatten(2).transpose(0, 1) if self._per_channel else bank.flatten(1)
            self._buffer = bank.new_empty(min(images, coefficients.shape[0]), *shape.weight)

    def kernels(self, piece: slice) -> Tensor:
        """Return the kernels (n, Co, Ci / groups, k, k) of a piece, valid until the next is asked for."""
        if self._coefficients is None:
            return self._bank[piece]
        weights = self._coefficients[piece]
        kernels = self._buffer[: len(weights)]
        if self._per_channel:
            torch.bmm(weights.transpose(0, 1), self._rows, out=kernels.flatten(2).transpose(0, 1))
        else:
            torch.mm(weights, self._rows, out=kernels.flatten(1))
        return kernels

    def backward(self, piece: slice, gradient: Tensor, bank_sum: Tensor | None, own: Tensor | None) -> None:
        """Add to the bank's gradient, and write the coefficients', from that of a piece's kernels."""
        if self._coefficients is None:
            if bank_sum is not None:
                bank_sum[piece] = gradient
            return
        weights = self._coefficients[piece]
        rows = gradient.flatten(2).transpose(0, 1) if self._per_channel else gradient.flatten(1)
        if bank_sum is not None:
            if self._per_channel:
                sums = bank_sum.flatten(2).transpose(0, 1)
                sums += weights.permute(1, 2, 0) @ rows
            else:
                bank_sum.flatten(1).addmm_(weights.mT, rows)
        if own is not None:
            found = rows @ self._rows.mT
            own[piece] = found.transpose(0, 1) if self._per_channel else found


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bank: Tensor, coefficients: Tensor | None, shape: ConvShape, images: int
    ) -> Tensor:
        ctx.save_for_backward(x, bank, coefficients)
        ctx.shape, ctx.images = shape, images
        return _forward(x, bank, coefficients, shape, images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, bank, coefficients = ctx.saved_tensors
        shape, images = ctx.shape, ctx.images
        to_x, to_bank, to_coefficients, *_ = ctx.needs_input_grad
        x_grad = torch.empty_like(x) if to_x else None
        bank_grad = torch.zeros_like(bank, memory_format=torch.contiguous_format) if to_bank else None
        own = torch.empty_like(coefficients) if to_coefficients else None
        strided = shape.pointwise and shape.stride > 1
        if strided and x_grad is not None:
            x_grad.zero_()
        mask = (to_x, to_bank or to_coefficients)
        with torch.autocast(x.device.type, enabled=False):
            x, seen_grad = _strided(x, shape), None if x_grad is None else _strided(x_grad, shape)
            mixer = _Mixer(bank, coefficients, shape, images)
            for start in range(0, x.shape[0], images):
                piece = slice(start, start + images)
                part, kernel_grad = _piece_backward(
                    gradient[piece], x[piece], mixer.kernels(piece), shape, mask
                )
                if seen_grad is not None and part is not None:
                    seen_grad[piece] = part
                if kernel_grad is not None:
                    mixer.backward(piece, kernel_grad, bank_grad, own)
        return x_grad, bank_grad, own, None, None


def _strided(x: Tensor, shape: ConvShape) -> Tensor:
    """Return the pixels that a pointwise convolution sees."""
    if shape.pointwise and shape.stride > 1:
        return x[:, :, :: shape.stride, :: shape.stride]
    return x


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _piece_forward(x: Tensor, kernels: Tensor, shape: ConvShape, y: Tensor) -> None:
    """Convolve some images into `y`."""
    if shape.pointwise:
        matrices, pixels, out = kernels.flatten(2), x.flatten(2), y.flatten(2)
        if _channels_last(y):
            torch.bmm(pixels.mT, matrices.mT, out=out.mT)
        else:
            torch.bmm(matrices, pixels, out=out)
    elif len(x) == 1:
        y.copy_(convolve(x, kernels[0], None, shape))
    else:
        wide = x.reshape(1, -1, *x.shape[2:])
        groups = len(x) * shape.groups
        found = convolve(wide, kernels.flatten(0, 1), None, shape, groups)
        y.copy_(found.view(y.shape))


def _piece_backward(
    gradient: Tensor, x: Tensor, kernels: Tensor, shape: ConvShape, mask: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of some images and of their kernels, as far as `mask` asks for them."""
    if shape.pointwise:
        above, pixels = gradient.flatten(2), x.flatten(2)
        x_grad = (kernels.flatten(2).mT @ above).view(x.shape) if mask[0] else None
        kernel_grad = (above @ pixels.mT).view(kernels.shape) if mask[1] else None
        return x_grad, kernel_grad
    if len(x) > 1:
        gradient, wide = (t.reshape(1, -1, *t.shape[2:]) for t in (gradient, x))
    else:
        wide = x
    x_grad, kernel_grad, _ = torch.ops.aten.convolution_backward(
        gradient,
        wide,
        kernels.flatten(0, 1),
        None,
        (shape.stride,) * 2,
        (shape.padding,) * 2,
        (shape.dilation,) * 2,
        False,
        (0, 0),
        len(x) * shape.groups,
        (*mask, False),
    )
    return (
        x_grad.view(x.shape) if mask[0] and len(x) > 1 else x_grad,
        kernel_grad.reshape(kernels.shape) if mask[1] else None,
    )
