"""Segmentation of CamVid: a searched front beside ENet and a UNet, by the same recipe, for some seeds.

    python studies/camvid/run.py --data camvid360x480.npz [--seeds 0 1] [--epochs 30] [--trials 60]

Networks see scenes of 256 x 192 pixels and are searched by what they say of these. Each is a study of its own
under `local/`; interrupted, the same command goes on. `results.json` holds mean IoU on the search and the
test images, that of the test images against the labels of all 480 x 360 pixels (`full_mean_iou`), and the
milliseconds of every network that is on a front. The best of it, trained alone, has no `full_mean_iou`.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where `compared` lies

from compared import compare
from networks import ENet, UNet

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.metrics.accuracy import predict_logits
from dynnas.settings.settings import DataSettings
from dynnas.space.space import Space
from dynnas.study.study import Study

METRICS = ("mean_iou", "test_mean_iou", "latency_ms", "median_ms", "macs", "params")


def fixed(classes: int) -> dict[str, Space]:
    """Return the networks to compare with."""
    return {"enet": Space.of(ENet, classes=[classes]), "unet": Space.of(UNet, classes=[classes], width=[16])}


@cache
def at_full_size(source: str) -> Dataset:
    """Return the data as they are."""
    return load_data(DataSettings(source=source, task="segmentation"))


def against_all_pixels(study: Study, key: str, source: str) -> dict[str, float]:
    """Return the mean IoU on the test images, enlarged answers against labels of the full size."""
    small, full = study.dataset, at_full_size(source)
    said = predict_logits(study.network(key), small, small.test.images)[-1]
    return {"full_mean_iou": small.task.score(said, full.test.targets)["mean_iou"]}


if __name__ == "__main__":
    file = Path(__file__).parent / "camvid.yaml"
    compare(__doc__, file, fixed, METRICS, epochs=30, trials=60, also=against_all_pixels)
