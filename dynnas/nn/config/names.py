"""Names of genes of a whole network, and of their values, that others read."""

from __future__ import annotations

EXITS_AT, NO_EXITS = "exits.at", "none"
CHOOSE, CHOOSE_TARGET = "resolution.choose", "resolution.target"
GLANCE_SIZE, GLANCE_THRESHOLD = "resolution.glance", "resolution.threshold"

# How a resolution is chosen, in the order of capacity, as gates: an image that is not looked at less closely
# comes last.
FIXED, PER_IMAGE, GLANCE = "fixed", "per_image", "glance"
