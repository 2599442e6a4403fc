"""The fixed networks against which all others are timed."""

from __future__ import annotations

import numpy as np
import torch

from dynnas.device import Subject
from dynnas.ops import Network
from dynnas.runtime import build_runner
from dynnas.space.network import BlockConfig, HeadConfig, NetworkConfig, StemConfig
from dynnas.space.settings import TargetSettings

WIDTHS = (16, 24)


def build_anchors(target: TargetSettings, channels: int, resolution: int) -> tuple[Subject, ...]:
    """Two small networks, always the same, for images (1, channels, resolution, resolution).

    They mix kernels and have attentions: a machine under load slows down such layers more than plain
    convolutions, and anchors of both kinds of work follow that twice as closely as static ones.
    """
    return tuple(_anchor(target, anchor_config(channels, resolution, width)) for width in WIDTHS)


def anchor_config(channels: int, resolution: int, width: int) -> NetworkConfig:
    """Three inverted residual blocks after a stem of stride 2."""
    blocks = (
        ("stage1.0", _block(width, width, stride=1)),
        ("stage2.0", _block(width, 2 * width, stride=2)),
        ("stage3.0", _block(2 * width, 2 * width, stride=1)),
    )
    stem = StemConfig(channels, width, kernel=3, stride=2, activation="relu")
    head = HeadConfig(2 * width, width=0, activation="relu", dropout=0.0, classes=10)
    return NetworkConfig(channels, 10, resolution, stem, blocks, (), head)


def _anchor(target: TargetSettings, config: NetworkConfig) -> Subject:
    # The values of the weights do not matter, but drawing them must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        network = Network(config).eval()
    image = np.zeros((1, config.channels, config.resolution, config.resolution), dtype=np.float32)
    return Subject(build_runner(network, target), [image])


def _block(in_channels: int, out_channels: int, stride: int) -> BlockConfig:
    return BlockConfig(
        block="mbconv",
        in_channels=in_channels,
        out_channels=out_channels,
        stride=stride,
        kernel=3,
        expand=3.0,
        op="condconv",
        experts=4,
        group=None,
        attention="se",
        activation="relu",
    )
