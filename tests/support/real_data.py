"""Published data that some tests use where they are: in $DYNNAS_DATA, or in a folder beside the checkout."""

import os
from pathlib import Path

DATA = Path(os.environ.get("DYNNAS_DATA", Path(__file__).parents[3] / "shared" / "data")).expanduser()
MACRO_FILE = DATA / "nbmacro_cifar10.npz"
CIFAR10_FILE = DATA / "cifar10_jpeg.npz"
