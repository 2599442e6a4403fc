"""Stripes of three directions, made on the spot."""

import numpy as np

from dynnas.data.raw import Labelled, RawData


def read(progress):
    """90 grey images of 8 x 8."""
    rows, columns = np.mgrid[:8, :8]
    noise = np.random.default_rng(0).integers(0, 40, (90, 1, 8, 8))
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2])
    labels = np.arange(90) % 3
    images = (200 * patterns[labels][:, None] + noise).astype(np.uint8)
    names = ("lying", "standing", "chequered")
    return RawData("stripes", "the plug-in", names, Labelled(images, labels.astype(np.int64)))
