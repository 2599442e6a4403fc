"""Families of gates, one per file; `dynnas.nn.gates.gate` says what a file holds."""

from dynnas.registry import import_all

import_all(__name__, __path__)
