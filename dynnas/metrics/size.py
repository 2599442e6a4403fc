"""The size of a network: multiply-adds, weights, and the file that ships."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.candidates.candidate import Candidate
from dynnas.metrics.measurement import Measurement
from dynnas.nn.networks.cost import cost
from dynnas.settings.metrics import METRICS, register_measurement


@register_measurement("size")
class Size(Measurement):
    """Multiply-adds and weights; those of a space file's networks are counted without making them."""

    gives = (METRICS["macs"], METRICS["params"])
    needs = "config"
    where = "driver"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the count of the candidate's config."""
        size = candidate.cost if candidate.own_class else cost(candidate.config)
        return {"macs": size.macs, "params": size.params}


@register_measurement("file")
class FileSize(Measurement):
    """The size of the network compiled for the target, as it is sent and shipped."""

    gives = (METRICS["file_mib"],)
    needs = "artifact"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the size of all its files, in MiB."""
        return {"file_mib": sum(map(len, candidate.artifact.files.values())) / 2**20}
