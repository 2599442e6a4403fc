"""The fixed networks against which all others are timed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from dynnas.measure.latency import Subject
from dynnas.ops import Network
from dynnas.runtime import build_runner
from dynnas.space.network import BlockConfig, HeadConfig, NetworkConfig, StemConfig
from dynnas.space.settings import TargetSettings

WIDTHS = (16, 32)


def build_anchors(target: TargetSettings, channels: int, resolution: int) -> tuple[Subject, ...]:
    """Two small static networks of the kind that is searched, on images of the same size; always the same."""
    return tuple(_anchor(target, _config(channels, resolution, width)) for width in WIDTHS)


def _anchor(target: TargetSettings, config: NetworkConfig) -> Subject:
    # Weights do not change the time of a static network, but those that are not numbers would.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(config).eval()
    image = np.zeros((1, config.channels, config.resolution, config.resolution), dtype=np.float32)
    return Subject(build_runner(network, target), [image])


def _config(channels: int, resolution: int, width: int) -> NetworkConfig:
    """A stem of stride 2 and three inverted residual blocks, twice as wide after each stride."""
    widths = (width, width, 2 * width, 2 * width)
    blocks = tuple(
        (f"stage{index + 1}.0", _block(before, after, stride=after // before))
        for index, (before, after) in enumerate(pairwise(widths))
    )
    stem = StemConfig(channels, width, kernel=3, stride=2, activation="relu")
    head = HeadConfig(widths[-1], width=0, activation="relu", dropout=0.0, classes=10)
    return NetworkConfig(channels, 10, resolution, stem, blocks, (), head)


def _block(in_channels: int, out_channels: int, stride: int) -> BlockConfig:
    return BlockConfig(
        block="mbconv",
        in_channels=in_channels,
        out_channels=out_channels,
        stride=stride,
        kernel=3,
        expand=3.0,
        op="static",
        experts=None,
        group=None,
        attention="none",
        activation="relu",
    )
