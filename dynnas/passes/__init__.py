"""What makes a finished network smaller: each pass turns a network into another one, or into a graph."""

from collections.abc import Mapping

from dynnas.passes.cluster import CLUSTER
from dynnas.passes.int8 import INT8
from dynnas.passes.lottery import LOTTERY
from dynnas.passes.prune import PRUNE
from dynnas.passes.run import Pass, Shrunk, Source

PASSES: Mapping[str, Pass] = {"int8": INT8, "prune": PRUNE, "cluster": CLUSTER, "lottery": LOTTERY}

__all__ = ["PASSES", "Pass", "Shrunk", "Source"]
