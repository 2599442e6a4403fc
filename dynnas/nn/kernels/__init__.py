"""Kernel ops, one per file; `dynnas.nn.kernels.kernel` says what a file holds."""

from dynnas.registry import import_all

import_all(__name__, __path__)
