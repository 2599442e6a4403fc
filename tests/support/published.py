"""Published networks written in the space language, each a space of one architecture, and what they cost.

The language has no pooling. Where a network pools after a stem of stride 2, its stem here has stride 4, and
`costs` counts that stem as published: at four times as many positions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from dynnas.language.parser import parse_space
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.cost import cost
from dynnas.space.moves import largest

Knobs = Mapping[str, Any]
POOLED_STRIDE = 4


def network(
    stem: Knobs,
    stages: Sequence[Knobs],
    head: Knobs | None = None,
    resolution: int = 224,
    classes: int = 1000,
) -> NetworkConfig:
    """The one network of a space file with these sections, for images in colour."""
    sections = {
        "input": {"channels": 3, "classes": classes, "resolutions": resolution},
        "stem": stem,
        "stages": stages,
        "head": head or {},
    }
    space = parse_space(json.dumps(sections))
    assert space.size == 1, f"{space.size} architectures, where one is meant"
    return space.network_config(largest(space))


@cache
def costs(config: NetworkConfig) -> tuple[int, int]:
    """Multiply-adds, with a pooled stem counted as published, and parameters."""
    counted = cost(config)
    return counted.macs + pooled_stem_macs(config), counted.params


def pooled_stem_macs(config: NetworkConfig) -> int:
    """What a stem of stride 4 saves beside one of stride 2 that pooling follows."""
    stem = config.stem
    if stem.stride != POOLED_STRIDE:
        return 0
    positions = (config.resolution // POOLED_STRIDE) ** 2
    return 3 * stem.out_channels * stem.in_channels * stem.kernel**2 * positions


def resnet18(**knobs: Any) -> NetworkConfig:
    """ResNet-18 (arXiv:1512.03385, table 1)."""
    return _resnet("basic", (64, 128, 256, 512), (2, 2, 2, 2), knobs)


def resnet50(**knobs: Any) -> NetworkConfig:
    """ResNet-50 (arXiv:1512.03385, table 1), with the stride in the 3x3 convolutions, as everywhere today."""
    return _resnet("bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3), knobs)


def _resnet(block: str, widths: Sequence[int], depths: Sequence[int], knobs: Knobs) -> NetworkConfig:
    stages = [
        {"block": block, "width": width, "depth": depth, "stride": stride, **knobs}
        for width, depth, stride in zip(widths, depths, (1, 2, 2, 2), strict=True)
    ]
    return network({"width": 64, "kernel": 7, "stride": POOLED_STRIDE}, stages)


def mobilenet_v1() -> NetworkConfig:
    """MobileNet 1.0 (arXiv:1704.04861, table 1)."""
    layers = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
    return network(
        {"width": 32, "stride": 2},
        [{"block": "dwsep", "width": w, "depth": depth, "stride": stride} for w, depth, stride in layers],
    )


def mobilenet_v2(activation: str = "relu6", **knobs: Any) -> NetworkConfig:
    """MobileNetV2 1.0 (arXiv:1801.04381, table 2), with `knobs` in every block."""
    layers = (
        (16, 1, 1, 1),
        (24, 6, 2, 2),
        (32, 6, 3, 2),
        (64, 6, 4, 2),
        (96, 6, 3, 1),
        (160, 6, 3, 2),
        (320, 6, 1, 1),
    )
    own = {"block": "mbconv", "activation": activation, **knobs}
    return network(
        {"width": 32, "stride": 2, "activation": activation},
        [{"width": w, "expand": e, "depth": depth, "stride": s, **own} for w, e, depth, s in layers],
        {"width": 1280, "activation": activation},
    )


def shufflenet_v1() -> NetworkConfig:
    """ShuffleNet 1x of two groups (arXiv:1707.01083, table 1)."""
    return _shufflenet("shuffle_v1", (200, 400, 800), 0, {})


def shufflenet_v2(**knobs: Any) -> NetworkConfig:
    """ShuffleNetV2 1x (arXiv:1807.11164, table 5)."""
    return _shufflenet("shuffle_v2", (116, 232, 464), 1024, knobs)


def _shufflenet(block: str, widths: Sequence[int], head: int, knobs: Knobs) -> NetworkConfig:
    stages = [
        {"block": block, "width": width, "depth": depth, "stride": 2, **knobs}
        for width, depth in zip(widths, (4, 8, 4), strict=True)
    ]
    return network({"width": 24, "stride": POOLED_STRIDE}, stages, {"width": head})


def squeezenet() -> NetworkConfig:
    """SqueezeNet 1.0 (arXiv:1602.07360, table 1); what is pooled there has a strided module here."""
    layers = ((128, 2, 1), (256, 1, 1), (256, 1, 2), (384, 2, 1), (512, 1, 1), (512, 1, 2))
    return network(
        {"width": 96, "kernel": 7, "stride": POOLED_STRIDE},
        [{"block": "fire", "width": w, "depth": depth, "stride": stride} for w, depth, stride in layers],
    )


# Width, expansion, kernel, stride and depth of each stage of EfficientNet-B0 (arXiv:1905.11946, table 1).
EFFICIENTNET_B0 = (
    (16, 1, 3, 1, 1),
    (24, 6, 3, 2, 2),
    (40, 6, 5, 2, 2),
    (80, 6, 3, 2, 3),
    (112, 6, 5, 1, 3),
    (192, 6, 5, 2, 4),
    (320, 6, 3, 1, 1),
)


def efficientnet_b0(attention: str = "se", **late: Any) -> NetworkConfig:
    """EfficientNet-B0 with `late` knobs in the last three stages, the dynamic ones of CondConv's networks.

    Its `se` has a quarter of the expanded channels as hidden units; the paper's of those before expansion.
    """
    return network(
        {"width": 32, "stride": 2, "activation": "silu"},
        [
            {"width": w, "expand": e, "kernel": k, "stride": s, "depth": d, "activation": "silu"}
            | {"block": "mbconv", "attention": attention, **(late if stage >= 4 else {})}
            for stage, (w, e, k, s, d) in enumerate(EFFICIENTNET_B0)
        ],
        {"width": 1280, "activation": "silu"},
    )


def efficientnet_v2_s(attention: str = "se", resolution: int = 384) -> NetworkConfig:
    """EfficientNetV2-S (arXiv:2104.00298, table 4).

    A fused block that does not expand is a convolution in the authors' code, and so it is here. `se` is wider
    than theirs, as in `efficientnet_b0`.
    """
    fused = [
        {"block": "conv", "width": 24, "depth": 2},
        {"block": "fused_mbconv", "width": 48, "expand": 4, "depth": 4, "stride": 2},
        {"block": "fused_mbconv", "width": 64, "expand": 4, "depth": 4, "stride": 2},
    ]
    inverted = [
        {"width": w, "expand": e, "depth": depth, "stride": s, "block": "mbconv", "attention": attention}
        for w, e, depth, s in ((128, 4, 6, 2), (160, 6, 9, 1), (256, 6, 15, 2))
    ]
    return network({"width": 24, "stride": 2}, [*fused, *inverted], {"width": 1280}, resolution)


# Kernel, inner channels, output channels, attention and stride of each of GhostNet's bottlenecks
# (arXiv:1911.11907, table 1).
GHOSTNET = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)


def ghostnet(plain: bool = False) -> NetworkConfig:
    """GhostNet 1.0x, without the 1280 units between its pooling and its classifier.

    Kernels of 5 are those of the cheap convolutions too, which in the paper stay at 3. With `plain`, all
    kernels are 3 and there is no attention.
    """
    before, stages = 16, []
    for kernel, hidden, width, attention, stride in GHOSTNET:
        stages.append(
            {
                "block": "ghost",
                "kernel": 3 if plain else kernel,
                "expand": hidden / before,
                "width": width,
                "attention": "se" if attention and not plain else "none",
                "stride": stride,
            }
        )
        before = width
    return network({"width": 16, "stride": 2}, stages, {"width": 960})
