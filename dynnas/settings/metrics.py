"""The metrics by name, and the measurements that give them.

Objectives and limits are written as names of metrics, in space files, on the command line and in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dynnas.metric import Metric
from dynnas.registry import Registry

MEASUREMENTS: Registry[Any] = Registry("measurement", group="dynnas.measurements", package="dynnas.metrics")
"""The classes of measurements by name, those of plug-ins included; see `dynnas.metrics.measurement`."""

register_measurement = MEASUREMENTS.register

INT8_RATIO = "int8_ratio"
"""A metric of finished fronts in spaces that choose between float32 and int8."""

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "share", "maximize", "accuracy on the search split"),
        Metric("test_accuracy", "share", "maximize", "accuracy on the test split, for finished fronts only"),
        Metric("error", "share", "minimize", "1 - accuracy"),
        Metric("latency_ms", "ms", "minimize", "latency by which candidates are ranked"),
        Metric("mean_ms", "ms", "minimize", "mean latency"),
        Metric("median_ms", "ms", "minimize", "median latency"),
        Metric("p95_ms", "ms", "minimize", "95th percentile of the latency"),
        Metric("worst_ms", "ms", "minimize", "longest latency"),
        Metric("predicted_ms", "ms", "minimize", "latency by a calibrated predictor"),
        Metric("energy_mj", "mJ", "minimize", "energy of a call"),
        Metric("peak_memory_mib", "MiB", "minimize", "memory that loading and running it adds"),
        Metric("cpu_nodes", "nodes", "minimize", "nodes that an execution provider leaves to the CPU"),
        Metric("file_mib", "MiB", "minimize", "size of the compiled network"),
        Metric(INT8_RATIO, "times", "minimize", "time in int8, as a multiple of that in float32"),
        Metric("macs", "MACs", "minimize", "multiply-adds for one image"),
        Metric("expected_macs", "MACs", "minimize", "mean multiply-adds over images, by exits and gates"),
        Metric("p95_macs", "MACs", "minimize", "95th percentile of an image's multiply-adds, by its gates"),
        Metric("worst_macs", "MACs", "minimize", "multiply-adds of the costliest image, by its gates"),
        Metric("policies", "ways", "maximize", "different ways that images take through exits and gates"),
        Metric("params", "weights", "minimize", "number of weights"),
    )
}
"""The metrics of dynnas itself, known without loading any measurement."""


BY_DEVICE = ("latency_ms", "p95_ms")
"""The metrics that every further device of a study gives: see `on_device`."""


def on_device(name: str, device: str) -> str:
    """Return the name of a metric as measured on one of a study's further devices, `latency_ms@phone`."""
    return f"{name}@{device}"


def device_metrics(devices: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the metrics that these devices give."""
    return tuple(on_device(name, device) for device in devices for name in BY_DEVICE)


def find_metric(name: str) -> Metric | None:
    """Return the metric of that name; None if no measurement gives it."""
    found = METRICS.get(name) or _given().get(name)
    base, _, device = name.partition("@")
    if found is None and base in BY_DEVICE and device:
        metric = METRICS[base]
        return Metric(name, metric.unit, metric.direction, f"{metric.title}, on {device}")
    return found


def known_metrics() -> Mapping[str, Metric]:
    """Return every metric by name, those of plug-ins included."""
    return {**METRICS, **_given()}


def objective_names() -> tuple[str, ...]:
    """Return the metrics that a trial of a study can give."""
    return tuple(_given())


def limit_names() -> tuple[str, ...]:
    """Return the metrics that a trial can give and for which an upper limit makes sense."""
    return tuple(name for name, metric in _given().items() if metric.direction == "minimize")


def _given() -> Mapping[str, Metric]:
    given = {
        metric.name: metric
        for measurement in MEASUREMENTS.values()
        for metric in (*measurement.gives, *measurement.may_give)
    }
    return {name: metric for name, metric in METRICS.items() if name in given} | given
