"""The top-down neck of a feature pyramid, and the knobs that heads of maps have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.space.knob import Knob, whole

NECK = Knob("neck", whole(4, 1024), "channels of what the head computes with", default=32)
TOWER = Knob("tower", whole(0, 8), "layers of 3x3 convolutions before the answer", default=1)
FINEST = Knob(
    "finest",
    whole(1, 64),
    "stride of the finest map that the head reads; of those that are finer it takes no notice",
    default=8,
)


class Neck(nn.Module):
    """Maps of several strides, each brought to the same channels, and coarse ones added to finer ones.

    Lin et al. 2017, arXiv:1612.03144, without the 3x3 convolutions behind the sums: heads have their own.

    Args:
        in_channels: of each map, the finest first. strides: of each map. width: channels of what it gives.
    """

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        # By strides: a supernet shares what reads maps of one stride.
        self.laterals = nn.ModuleDict(
            {f"s{stride}": unit(own, width, 1) for own, stride in zip(in_channels, strides, strict=True)}
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map (B, Ci, Hi, Wi), the finest first, to (B, width, Hi, Wi)."""
        found = [lateral(x) for lateral, x in zip(self.laterals.values(), maps, strict=True)]
        for row in range(len(found) - 2, -1, -1):
            size = found[row].shape[-2:]
            found[row] = found[row] + F.interpolate(found[row + 1], size, mode="nearest")
        return found


def unit(in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> nn.Sequential:
    """Make a convolution that keeps the size, its batch norm and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
