"""A detector of one's own becomes a search over its backbone, neck and head.

    python docs/examples/detection.py FOLDER [--epochs 30] [--trials 60]

FOLDER holds boxes of three classes as Pascal VOC or COCO have them. The class below is an ordinary detector;
the lines between the two marks make it a search.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.export.bundle import export_model
from dynnas.tasks import DetectionHead


def unit(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Make a depthwise and a pointwise convolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class Stage(nn.Module):
    """Half the resolution, then `depth` units with a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        self.down = unit(in_channels, out_channels, stride=2)
        self.units = nn.ModuleList(unit(out_channels, out_channels) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / 2, W / 2)."""
        x = self.down(x)
        for each in self.units:
            x = x + each(x)
        return x


class Detector(nn.Module):
    """A backbone, a neck that adds coarse maps to finer ones, and an anchor-free head at strides 8 and 16."""

    def __init__(self, classes: int, width: int, depth: int, neck: int, tower: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.four = Stage(width, 2 * width, depth)
        self.eight = Stage(2 * width, 4 * width, depth)
        self.sixteen = Stage(4 * width, 8 * width, depth)
        self.fine, self.coarse = nn.Conv2d(4 * width, neck, 1), nn.Conv2d(8 * width, neck, 1)
        self.head = DetectionHead([neck, neck], [8, 16], classes, width=neck, depth=tower)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to outputs while it is trained, and to detections (B, D, 6) afterwards."""
        eight = self.eight(self.four(self.stem(x)))
        coarse = self.coarse(self.sixteen(eight))
        fine = self.fine(eight)
        fine = fine + F.interpolate(coarse, fine.shape[-2:], mode="nearest")
        return self.head([fine, coarse])


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder")
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--trials", type=int, default=60)
    options.add_argument("--study", type=Path, default=Path("studies/detection"))
    given = options.parse_args()

    # search
    import dynnas as dn
    from dynnas.settings.settings import TrainSettings

    front = dn.search(
        dn.Space.of(
            Detector, classes=[3], width=[8, 12, 16], depth=[0, 1, 2], neck=[16, 32], tower=[1, 2]
        ),
        data=given.folder,
        train=TrainSettings(epochs=given.epochs, batch=16, optimizer="adamw", lr=2e-3),
        objectives=("ap50", "latency_ms"), trials=given.trials, folder=given.study,
    )  # fmt: skip
    # end of search
    print(front)
    study = front.study
    export_model(study.network(front.pick("knee").key), study.dataset, given.study / "knee", overwrite=True)
