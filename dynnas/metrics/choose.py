"""The choice of the measurements that a study takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynnas.errors import StudyError, nearest
from dynnas.latency.meter import LatencyMeter
from dynnas.metrics.measurement import Measurement
from dynnas.settings.metrics import MEASUREMENTS, objective_names


def measurements_for(
    metrics: Iterable[str], taken: Sequence[Measurement], meter: LatencyMeter
) -> tuple[Measurement, ...]:
    """Return the registered measurements that give those `metrics` which none of `taken` gives.

    Raises:
        StudyError: no measurement gives one of them.
    """
    known = {metric.name for measurement in taken for metric in (*measurement.gives, *measurement.may_give)}
    added: dict[str, Measurement] = {}
    for name in metrics:
        if name in known:
            continue
        for entry, kind in MEASUREMENTS.items():
            if any(metric.name == name for metric in kind.gives):
                added[entry] = kind.create(meter)
                break
        else:
            names = tuple(dict.fromkeys((*objective_names(), *known)))
            raise StudyError(
                f"no measurement gives {name!r}{nearest(name, names)}; known metrics: {', '.join(names)}"
            )
    return tuple(added.values())
