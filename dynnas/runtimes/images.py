"""Inputs for a network whose values do not matter."""

from __future__ import annotations

import torch
from torch import Tensor

from dynnas.nn.config.network import NetworkConfig
from dynnas.runtimes.cascade import CascadeConfig
from dynnas.runtimes.plain import PlainConfig


def blank_images(config: NetworkConfig | CascadeConfig | PlainConfig, batch: int = 1) -> Tensor:
    """Return zeros (batch, channels, height, width) of the shape that the network of `config` takes."""
    return torch.zeros(batch, *config.shape)
