"""How many blocks a network has."""

from dynnas.metric import Metric
from dynnas.metrics.measurement import Measurement


class Depth(Measurement):
    """The number of blocks."""

    gives = (Metric("depth", "blocks", "minimize", "blocks of the network"),)
    needs = "config"
    where = "driver"

    def measure(self, candidate):
        return {"depth": float(len(candidate.config.blocks))}
