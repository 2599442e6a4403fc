"""A training script that restores images, as users have one: its step, its score, its head and its data."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.tasks import Functions

HEIGHT, WIDTH = 12, 16

Batch = tuple[Tensor, Tensor]


class Enlarge(nn.Module):
    """A 1x1 convolution on the finest map, enlarged by its stride: (B, 1, H, W)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution, self.stride = nn.Conv2d(channels, 1, 1), stride

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return F.interpolate(self.convolution(maps[0]), scale_factor=float(self.stride), mode="bilinear")


def head(channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
    return Enlarge(channels[0], strides[0])


def step(model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    """Return how far images are from what the model makes of them with a bar of noise: (B,)."""
    images, _ = batch
    hidden = images.clone()
    hidden[..., 4:6] = torch.randn_like(hidden[..., 4:6])
    return (model(hidden) - images).square().flatten(1).mean(1)


def no_gradient(model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    return step(model, batch).detach()


def score(model: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> dict[str, Tensor | float]:
    """Return the peak signal-to-noise ratio in decibels, and the largest error by label."""
    errors = [((model(images) - images).square().flatten(1).mean(1), labels) for images, labels in batches]
    each, labels = (torch.cat(part) for part in zip(*errors, strict=True))
    by_label = [float(each[labels == label].mean()) for label in (0, 1)]
    return {"psnr": -10 * each.mean().log10(), "worst": max(by_label)}


def any_targets() -> Functions:
    """Return a task that takes targets of any form."""
    return Functions(step, score, {"psnr": "maximize", "worst": "minimize"})


def pictures() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return 96 grey pictures of slopes, bright to the left or to the right by their label."""
    rng, rows = np.random.default_rng(0), np.linspace(0, 1, WIDTH)
    labels = np.arange(96) % 2
    slopes = np.where(labels[:, None], rows, 1 - rows)[:, None] * rng.uniform(0.5, 1, (96, HEIGHT, 1))
    images = (255 * slopes).astype(np.uint8)
    cuts = {"train": slice(0, 48), "search": slice(48, 72), "test": slice(72, 96)}
    return {part: (images[cut], labels[cut]) for part, cut in cuts.items()}
