"""Energy and memory of a network's call, and what of it an execution provider leaves to the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from dynnas.candidates.candidate import Candidate
from dynnas.errors import TargetError
from dynnas.latency.energy import NoEnergyError, energy_counter
from dynnas.latency.resources import call_energies, peak_memories_mib, placements
from dynnas.metrics.measurement import Measurement
from dynnas.runtimes.runtime import get_runtime
from dynnas.settings.metrics import METRICS, register_measurement
from dynnas.settings.settings import TargetSettings

_NO_PROVIDER = (
    "cpu_nodes cannot be counted: runtime {} has no execution providers; take it out of the objectives and "
    "limits, or use a runtime such as onnxruntime_xnnpack"
)


@register_measurement("energy")
class Energy(Measurement):
    """The energy of a call by the processor's or graphics card's own counter."""

    gives = (METRICS["energy_mj"],)
    needs = "artifact"
    where = "device"
    cost: ClassVar[float | None] = 5.0

    def check(self, target: TargetSettings) -> None:
        """Read the counter once; that of a remote device is known when it is first asked.

        Raises:
            TargetError: this machine does not count energy, or does not let us read it.
        """
        if target.remote:
            return
        try:
            energy_counter(target.device)
        except NoEnergyError as error:
            raise TargetError(
                f"energy_mj cannot be measured here: {error}; take it out of the objectives and limits, or "
                "search on a machine that counts energy"
            ) from error

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the millijoules of a call, as a mean over its images.

        Raises:
            TargetError: the device does not tell.
        """
        (energy,) = call_energies([candidate.workload], candidate.target)
        if energy.energy_mj is None:
            raise TargetError(f"energy_mj cannot be measured: {energy.reason}")
        return {"energy_mj": energy.energy_mj}


@register_measurement("placement")
class Placement(Measurement):
    """The nodes of the graph that an execution provider of ONNX Runtime leaves to the CPU."""

    gives = (METRICS["cpu_nodes"],)
    needs = "artifact"
    where = "device"
    cost: ClassVar[float | None] = 4.2

    def check(self, target: TargetSettings) -> None:
        """Check that the runtime has execution providers.

        Raises:
            TargetError: it has none, so that nothing falls back from one.
        """
        if target.runtime != "auto" and not hasattr(get_runtime(target.runtime), "provider"):
            raise TargetError(_NO_PROVIDER.format(target.runtime))

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the number of nodes.

        Raises:
            TargetError: the runtime has no execution providers.
        """
        (placement,) = placements([candidate.workload], candidate.target)
        if placement is None:
            raise TargetError(_NO_PROVIDER.format(candidate.target.runtime))
        return {"cpu_nodes": float(placement.elsewhere)}


@register_measurement("memory")
class PeakMemory(Measurement):
    """The memory that loading and running the compiled network adds to a process with its runtime."""

    gives = (METRICS["peak_memory_mib"],)
    needs = "artifact"
    where = "device"
    cost: ClassVar[float | None] = 4.5

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return MiB of resident memory.

        Raises:
            TargetError: the network cannot be run, or the system does not tell.
        """
        image = candidate.workload.images[0]
        (mib,) = peak_memories_mib([candidate.calibrated], [image], candidate.target, [candidate.artifact])
        return {"peak_memory_mib": mib}
