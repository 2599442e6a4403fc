"""The networks of this study, in plain torch."""

from __future__ import annotations

import torch
from residual import Basic, conv
from torch import Tensor, nn
from torch.nn import functional as F


class ResNet(nn.Module):
    """A ResNet of four stages of two blocks: images (B, channels, H, W) to logits (B, classes)."""

    def __init__(self, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = conv(channels, width, 5, 2)
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    Basic(sizes[at], sizes[at + 1], 1 + (at > 0)), Basic(sizes[at + 1], sizes[at + 1], 1)
                )
                for at in range(4)
            )
        )
        self.fc = nn.Linear(sizes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        return self.fc(self.stages(x).mean((2, 3)))


class Inverted(nn.Module):
    """MobileNetV2's inverted residual (Sandler et al. 2018, arXiv:1801.04381)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = expand * inputs
        self.expand = conv(inputs, hidden, 1) if expand > 1 else None
        self.depthwise, self.project = conv(hidden, hidden, 3, stride, hidden), conv(hidden, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skips else y


class MobileNet(nn.Module):
    """A network of inverted residuals: images (B, channels, H, W) to logits (B, classes)."""

    def __init__(self, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = conv(channels, width, 3, 2)
        stages, before = [], width
        for factor, blocks, stride in ((1, 1, 1), (1.5, 2, 2), (2, 2, 2), (4, 3, 2), (6, 2, 1)):
            after = 8 * round(width * factor / 8)
            expand = 4 if stages else 1
            inverted = [Inverted(before, after, stride, expand)]
            inverted += [Inverted(after, after, 1, expand) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*inverted))
            before = after
        self.stages, self.last = nn.Sequential(*stages), conv(before, 20 * width, 1)
        self.fc = nn.Linear(20 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        x = F.relu6(self.last(self.stages(F.relu6(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


NETWORKS = {"resnet": ResNet, "mobilenet": MobileNet}


def drawn(name: str, channels: int, classes: int, width: int | None, seed: int) -> nn.Module:
    """Return a network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {} if width is None else {"width": width}
        return NETWORKS[name](channels, classes, **options)
