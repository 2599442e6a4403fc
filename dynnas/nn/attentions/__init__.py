"""Attentions over the feature maps of a block, one per file: a module made from the number of channels."""

from dynnas.registry import import_all

import_all(__name__, __path__)
