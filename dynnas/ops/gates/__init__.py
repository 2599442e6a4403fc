"""Families of gates, one per file; `dynnas.ops.gate` says what a file holds."""

from dynnas.ops.registry import import_all

import_all(__name__, __path__)
