"""Compression of finished networks: each pass turns a network into a smaller one, or into a graph."""

from collections.abc import Mapping

from dynnas.compression.cluster import CLUSTER
from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.compression.int8 import INT8
from dynnas.compression.lottery import LOTTERY
from dynnas.compression.prune import PRUNE
from dynnas.compression.qat import QAT

PASSES: Mapping[str, Pass] = {
    "int8": INT8,
    "qat": QAT,
    "prune": PRUNE,
    "cluster": CLUSTER,
    "lottery": LOTTERY,
}

__all__ = ["PASSES", "CompressedModel", "CompressionInput", "Pass"]
