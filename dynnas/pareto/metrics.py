"""The metrics that dynnas knows by name."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.metric import Metric

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
        Metric("energy_mj", "mJ", "minimize", "energy of a call, for finished fronts only"),
        Metric("peak_memory_mib", "MiB", "minimize", "memory that it adds, for finished fronts only"),
        Metric("macs", "MACs", "minimize", "multiply-adds for one image"),
        Metric("expected_macs", "MACs", "minimize", "mean multiply-adds over images, by exits and gates"),
        Metric("p95_macs", "MACs", "minimize", "95th percentile of an image's multiply-adds, by its gates"),
        Metric("worst_macs", "MACs", "minimize", "multiply-adds of the costliest image, by its gates"),
        Metric("policies", "ways", "maximize", "different ways that images take through exits and gates"),
        Metric("params", "weights", "minimize", "number of weights"),
    )
}
