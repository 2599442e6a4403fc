"""The embedded default: scikit-learn's 1,797 handwritten digits of 8 x 8."""

from __future__ import annotations

import numpy as np

from dynnas.data.raw import Labelled, RawData


def read() -> RawData:
    """Return the digits, with their 17 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits  # here, for it is slow to import and other data do not need it

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return RawData(
        name="digits",
        where="scikit-learn's digits",
        class_names=tuple("0123456789"),
        train=Labelled(images, bunch.target.astype(np.int64)),
    )
