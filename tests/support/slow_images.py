"""An augmentation that takes its time."""

import time

from torch import Tensor

SECONDS = 0.005


def same(image: Tensor) -> Tensor:
    """Return an image as it is, after a while."""
    time.sleep(SECONDS)
    return image


def broken(image: Tensor) -> Tensor:
    """Fail."""
    raise OSError("no more")
