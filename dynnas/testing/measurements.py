"""The conformance suite of measurements: `check_measurement` over any candidate."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from typing import get_args

from dynnas.candidates.candidate import Candidate
from dynnas.metric import Direction, Metric
from dynnas.metrics.measurement import Measurement, Need, Where
from dynnas.nn.layers.digest import weights_digest
from dynnas.settings.metrics import find_metric


def check_measurement(measurement: Measurement, candidate: Candidate) -> None:
    """Check everything that the search relies on.

    Args:
        measurement: to check. candidate: any that it can measure; it is calibrated on the way.

    Raises:
        AssertionError: the measurement breaks the contract; says how.
    """
    for check in measurement_checks():
        check(measurement, candidate)


def measurement_checks() -> Iterator[Callable[[Measurement, Candidate], None]]:
    """Yield the checks one by one, for parametrised tests."""
    yield check_declaration
    yield check_values
    yield check_that_nothing_is_changed
    yield check_pickling


def check_declaration(measurement: Measurement, candidate: Candidate) -> None:
    """Check that the measurement states metrics, need and place that exist."""
    assert measurement.gives, f"{measurement}: it gives no metrics"
    for metric in measurement.gives:
        check_metric(metric, str(measurement))
        assert metric.unit, f"{metric.name}: it has no unit"
        known = find_metric(metric.name)
        assert known in (None, metric), f"{metric.name}: another measurement gives {known}"
    assert measurement.needs in get_args(Need), f"{measurement}: needs {measurement.needs!r}"
    assert measurement.where in get_args(Where), f"{measurement}: where {measurement.where!r}"
    assert isinstance(measurement.provenance, str), f"{measurement}: provenance is no text"


def check_metric(metric: Metric, owner: str) -> None:
    """Check that a metric can be an objective by its name, and means what others of that name mean."""
    assert isinstance(metric, Metric), f"{owner}: {metric!r} is no Metric"
    assert metric.name.replace("@", "_", 1).isidentifier(), (
        f"{owner}: {metric.name!r} is no name for a command line"
    )
    assert metric.direction in get_args(Direction), f"{metric.name}: direction {metric.direction!r}"
    known = find_metric(metric.name)
    if known is not None:
        same = known.direction == metric.direction and metric.unit in ("", known.unit)
        assert same, f"{owner}: {metric} has the name of {known}"


def check_values(measurement: Measurement, candidate: Candidate) -> None:
    """Check that each metric is a finite number, and the same twice unless a device is timed."""
    assert candidate.calibrated
    measurement.check(candidate.target)
    found = measurement.measure(candidate)
    for metric in measurement.gives:
        assert metric.name in found, f"{measurement}: it gives {metric.name}, but did not for this candidate"
    for name, value in found.items():
        assert isinstance(value, int | float), f"{name}: {value!r} is no number"
        assert math.isfinite(value), f"{name}: {value!r} is not finite"
    if measurement.where != "device":
        again = dict(measurement.measure(candidate))
        assert again == dict(found), f"{measurement}: {dict(found)}, and measured again {again}"


def check_that_nothing_is_changed(measurement: Measurement, candidate: Candidate) -> None:
    """Check that the measurement leaves the candidate's network as it was."""
    before, training = weights_digest(candidate.calibrated), candidate.calibrated.training
    measurement.measure(candidate)
    assert weights_digest(candidate.calibrated) == before, f"{measurement}: it changed the weights"
    assert candidate.calibrated.training == training, f"{measurement}: it changed the mode of the network"


def check_pickling(measurement: Measurement, candidate: Candidate) -> None:
    """Check that a measurement that runs in workers can be sent there."""
    if measurement.where == "worker":
        there = pickle.loads(pickle.dumps(measurement))
        assert dict(there.measure(candidate)) == dict(measurement.measure(candidate))
