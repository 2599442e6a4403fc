"""How large a network is: multiply-adds, weights, and the file that ships."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.candidates.candidate import Candidate
from dynnas.metrics.measurement import Measurement
from dynnas.nn.networks.cost import cost
from dynnas.settings.metrics import METRICS, register_measurement


@register_measurement("size")
class Size(Measurement):
    """Multiply-adds and weights, counted without making a network."""

    gives = (METRICS["macs"], METRICS["params"])
    needs = "config"
    where = "driver"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """The count of the candidate's config."""
        size = cost(candidate.config)
        return {"macs": size.macs, "params": size.params}


@register_measurement("file")
class FileSize(Measurement):
    """The size of the ONNX file that an export writes."""

    gives = (METRICS["file_mib"],)
    needs = "calibrated"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """The number of bytes, in MiB."""
        from dynnas.runtimes.onnx.graph import to_onnx

        return {"file_mib": len(to_onnx(candidate.calibrated).SerializeToString()) / 2**20}
