"""The embedded default: scikit-learn's 1,797 handwritten digits of 8 x 8."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dynnas.data.raw import Labelled, RawData
from dynnas.errors import DataError


def read() -> RawData:
    """Return the digits, with their 17 grey levels spread over 0..255."""
    images, labels = load_digits()
    return RawData(
        name="digits",
        where="scikit-learn's digits",
        class_names=tuple("0123456789"),
        train=Labelled(np.rint(images * (255 / 16)).astype(np.uint8)[:, None], labels),
    )


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the scans, float64 [1797, 8, 8] of 0..16, and their labels, int64 [1797].

    They are read from scikit-learn's own file, because importing scikit-learn takes longer than a second.

    Raises:
        DataError: scikit-learn is not installed, or has the file no longer.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("data.source: the digits come with scikit-learn, which is not installed")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise DataError(f"data.source: {file} is missing: the digits come with scikit-learn; reinstall it")
    rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
