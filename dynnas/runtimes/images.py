"""Inputs of a network where only their shape matters."""

from __future__ import annotations

import torch
from torch import Tensor

from dynnas.nn.config.network import NetworkConfig
from dynnas.runtimes.cascade import CascadeConfig
from dynnas.runtimes.plain import PlainConfig


def blank_images(config: NetworkConfig | CascadeConfig | PlainConfig, batch: int = 1) -> Tensor:
    """Zeros (batch, channels, height, width) of the shape that the network of `config` takes."""
    return torch.zeros(batch, *image_shape(config))


def image_shape(config: NetworkConfig | CascadeConfig | PlainConfig) -> tuple[int, int, int]:
    """(channels, height, width) of an image that the network of `config` takes."""
    if isinstance(config, PlainConfig):
        return config.shape
    return config.channels, config.resolution, config.resolution
