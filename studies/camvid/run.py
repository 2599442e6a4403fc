"""Segmentation of CamVid: a searched front beside ENet and a UNet, by the same recipe, for some seeds.

    python studies/camvid/run.py --data camvid360x480.npz [--seeds 0 1] [--epochs 200] [--trials 200]

Each network is a study of its own under `local/`; interrupted, the same command goes on. `results.json` holds
mean IoU on the search and the test images and the milliseconds of every network that is on a front.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where `compared` lies

from compared import compare
from networks import ENet, UNet

from dynnas.space.space import Space

METRICS = ("mean_iou", "test_mean_iou", "latency_ms", "median_ms", "macs", "params")


def fixed(classes: int) -> dict[str, Space]:
    """Return the networks to compare with."""
    return {"enet": Space.of(ENet, classes=[classes]), "unet": Space.of(UNet, classes=[classes], width=[16])}


if __name__ == "__main__":
    compare(__doc__, Path(__file__).parent / "camvid.yaml", fixed, METRICS, epochs=200, trials=200)
