"""A finished network with its preprocessing of images, as one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.data.dataset import Dataset
from dynnas.data.streaming.images import Images
from dynnas.nn.layers.resize import resize
from dynnas.runtimes.cascade import Finished


class Prepare(nn.Module):
    """Turns images (B, C, H, W), as in the data set or floats from 0 to 1, into the network's input."""

    mean: Tensor
    std: Tensor

    def __init__(self, dataset: Dataset, size: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.scale = size, dataset.scale
        self.register_buffer("mean", torch.tensor(dataset.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(dataset.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images if images.is_floating_point() else images.float() / self.scale
        return resize((pixels - self.mean) / self.std, self.size)


def ready(network: Finished, dataset: Dataset) -> nn.Sequential:
    """Return `network` after the preprocessing of images of `dataset`, on the CPU in evaluation mode."""
    return nn.Sequential(Prepare(dataset, network.config.shape[1:]), network.cpu()).eval()


def prepare_images(
    network: Finished, dataset: Dataset, images: Images, size: tuple[int, int] | None = None
) -> Tensor:
    """Return images [B, C, H, W] of a split as input of `network`: normalised, resized, on its device.

    They get `size` if it is given, else that of the network.
    """
    device = next(network.parameters()).device
    return resize(dataset.normalise(images.to(device)), size or network.config.shape[1:])
