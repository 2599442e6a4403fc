"""The contract of a measurement: the metrics it gives, what it needs, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from dynnas.candidates.candidate import Candidate
from dynnas.latency.meter import LatencyMeter
from dynnas.metric import Metric
from dynnas.settings.settings import TargetSettings

Need = Literal["config", "network", "calibrated", "artifact"]
"""The costliest part of a candidate that is used; each stands for those before it."""

Where = Literal["driver", "worker", "device"]
"""A place: `driver` is the process that drives the search, `worker` any process that has supernet and data,
and `device` the driver, while nobody else uses the target device.
"""

COSTS: Mapping[Need, float] = {"config": 0.0, "network": 1.0, "calibrated": 3.0, "artifact": 4.0}
"""The usual `Measurement.cost` by need."""


class Measurement:
    """Gives some metrics of a candidate.

    A class of your own states `gives`, `needs` and `where`, and defines `measure`; entered by
    `@register_measurement("name")`, or by the entry point group `dynnas.measurements`, its metrics can be
    named as objectives and limits. A measurement that runs in workers must be picklable.

    Attributes:
        gives: the metrics that every candidate gets.
        may_give: further metrics, that candidates of some data get.
        needs: the costliest part of a candidate that it looks at.
        where: the process that it must run in.
    """

    gives: tuple[Metric, ...] = ()
    may_give: tuple[Metric, ...] = ()
    needs: Need = "network"
    where: Where = "worker"
    cost: ClassVar[float | None] = None

    @classmethod
    def create(cls, meter: LatencyMeter) -> Self:
        """Return the measurement for a study whose latencies `meter` measures."""
        return cls()

    @property
    def order(self) -> float:
        """The place among measurements: the smaller runs earlier, and limits are checked after each."""
        return COSTS[self.needs] if self.cost is None else self.cost

    @property
    def provenance(self) -> str:
        """Return everything that its numbers depend on beside weights, data, environment and target."""
        return ""

    def check(self, target: TargetSettings) -> None:
        """Check that it can be taken on this machine, before a study begins.

        Raises:
            TargetError: it cannot; says why.
        """

    def needs_statistics(self, candidate: Candidate) -> bool:
        """Return whether the candidate must be calibrated before."""
        return self.needs in ("calibrated", "artifact")

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the metrics by name: those that it `gives`, and any others that this candidate has.

        Raises:
            UnavailableError: the candidate cannot be measured, which is no failure.
            Exception: the candidate has failed; the search goes on.
        """
        raise NotImplementedError
