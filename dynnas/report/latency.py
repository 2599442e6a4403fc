"""A network's latency on real images, as tables, as a histogram of text, and as a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.files import atomic_write
from dynnas.latency.dependent import DependentLatency
from dynnas.latency.resources import Resources
from dynnas.latency.throttling import Throttling
from dynnas.report.plots.histogram import Histogram, draw_histogram
from dynnas.report.tables.table import Column, Table, count
from dynnas.runtimes.onnx.placement import Placement
from dynnas.study.records.latencies import IMAGE_LATENCY
from dynnas.study.study import Study
from dynnas.workflows.latency import NetworkLatency, latency_of

BINS = 12
BAR = 40
"""Characters of the longest bar."""

QUARTERS = 4


@dataclass(frozen=True)
class LatencyReport:
    """The measurements of the network `key` of a study."""

    study: Study
    key: str
    measured: DependentLatency
    resources: Resources
    placement: Placement | None = None
    throttling: Throttling | None = None

    @property
    def title(self) -> str:
        """The network, and where it was timed."""
        target = self.study.settings.target
        return f"{self.key} of {self.study.name} on {target.device}, threads: {target.threads}"

    def tables(self) -> tuple[Table, ...]:
        """Return the tables: the distribution over images, by exit, by gates, a histogram, by batch size."""
        measured = self.measured
        tables = [_images_table(self)]
        if not measured.is_one_value:
            if len(measured.ways) > 1:
                tables.append(_ways_table(measured))
            if measured.image_macs:
                tables.append(_work_table(measured))
            tables.append(_histogram_table(measured))
        if measured.batches:
            tables.append(_batches_table(measured))
        return (*tables, _how_table(self))

    def write_plot(self) -> Path:
        """Draw the distribution into the study's folder, and say where."""
        folder = self.study.folder.latency
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.key}.png"
        draw_histogram(histogram_of(self), path)
        return path

    def write_document(self) -> Path:
        """Keep all values in the study's folder, for the report, and say where."""
        folder = self.study.folder.latency
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.key}.json"
        found = NetworkLatency(self.measured, self.resources, self.placement, self.throttling)
        atomic_write(path, IMAGE_LATENCY.write(found.to_dict()))
        return path


def report_of(study: Study, key: str, found: NetworkLatency) -> LatencyReport:
    """Return the report of what `latency_of` found of a network."""
    return LatencyReport(study, key, found.measured, found.resources, found.placement, found.throttling)


def time_front(study: Study) -> None:
    """Time every member image by image that has exits or gates, and keep that for the report."""
    data = study.dataset
    for member in study.front:
        if study.space.network_config(member.architecture, data.channels, data.task.outputs).branches:
            batch = min(32, len(data.search))
            found = latency_of(study, member.key, batch=batch)
            report_of(study, member.key, found).write_document()


def histogram_of(report: LatencyReport) -> Histogram:
    """Return the times of the images by the exit where they leave."""
    measured = report.measured
    latency = measured.latency
    groups = {
        way.name: [
            ms for ms, taken in zip(measured.image_ms, measured.image_ways, strict=True) if taken == index
        ]
        for index, way in enumerate(measured.ways)
    }
    lines = {"mean": latency.mean_ms}
    if not measured.is_one_value:
        lines |= {"p50": latency.median_ms, "p95": latency.p95_ms}
    return Histogram(report.title, groups, lines, latency.interval_ms)


def _images_table(report: LatencyReport) -> Table:
    measured = report.measured
    latency, (low, high) = measured.latency, measured.latency.interval_ms
    columns = tuple(
        Column(name, numeric=True) for name in ("images", "mean ms", "95% interval", "p50", "p95", "worst")
    )
    times = (latency.mean_ms, latency.median_ms, latency.p95_ms, latency.worst_ms)
    mean, *rest = (f"{ms:.4f}" for ms in times)
    if measured.is_one_value:
        title = f"{report.title}: the same work for every image, so one value"
        return Table(title, columns[1:3], ((mean, _interval(low, high)),))
    title = f"{report.title}: one image at a time, really branching"
    return Table(title, columns, ((str(len(measured.image_ms)), mean, _interval(low, high), *rest),))


def _ways_table(measured: DependentLatency) -> Table:
    mean_ms = measured.latency.mean_ms
    title = (
        f"by exit, {measured.counted} images counted: expected mean {measured.expected_ms:.4f} ms "
        f"({100 * (measured.expected_ms / mean_ms - 1):+.1f}% of the measured one)"
    )
    columns = (
        Column("leaves at"),
        Column("images %", numeric=True),
        Column("mean ms", numeric=True),
        Column("95% interval", numeric=True),
    )
    rows = tuple(
        (
            way.name,
            f"{100 * way.share:.1f}",
            "" if way.mean_ms is None else f"{way.mean_ms:.4f}",
            "" if way.interval_ms is None else _interval(*way.interval_ms),
        )
        for way in measured.ways
    )
    return Table(title, columns, rows)


def _work_table(measured: DependentLatency) -> Table:
    """Compare the time of images with their multiply-adds, in quarters, those with the fewest first."""
    macs, times = np.array(measured.image_macs), np.array(measured.image_ms)
    quarters = [part for part in np.array_split(np.argsort(macs, kind="stable"), QUARTERS) if len(part)]
    work, took = ([values[part].mean() for part in quarters] for values in (macs, times))
    columns = tuple(
        Column(name, numeric=True) for name in ("images", "mean MACs", "of the most %", "mean ms", "of it %")
    )
    rows = tuple(
        (
            str(len(part)),
            count(own),
            f"{100 * own / max(work):.1f}",
            f"{ms:.4f}",
            f"{100 * ms / took[int(np.argmax(work))]:.1f}",
        )
        for part, own, ms in zip(quarters, work, took, strict=True)
    )
    return Table("images by their multiply-adds, in quarters", columns, rows)


def _histogram_table(measured: DependentLatency) -> Table:
    """Return one row for each bin of times, with the number of images of each exit in it."""
    edges = np.histogram_bin_edges(measured.image_ms, BINS)
    taken = np.array(measured.image_ways)
    times = np.array(measured.image_ms)
    counts = np.array([np.histogram(times[taken == way], edges)[0] for way in range(len(measured.ways))])
    longest = counts.sum(axis=0).max()
    columns = (
        Column("ms from", numeric=True),
        *(Column(way.name, numeric=True) for way in measured.ways),
        Column("images"),
    )
    rows = tuple(
        (f"{start:.4f}", *(str(count or "") for count in column), "█" * -(-BAR * column.sum() // longest))
        for start, column in zip(edges, counts.T, strict=False)
    )
    return Table("images by their time", columns, rows)


def _batches_table(measured: DependentLatency) -> Table:
    columns = (
        Column("execution"),
        Column("ms a batch", numeric=True),
        Column("95% interval", numeric=True),
        Column("ms an image", numeric=True),
        Column("times batch 1", numeric=True),
    )
    rows = tuple(
        (
            "whole" if measured.is_one_value else one.execution,
            f"{one.batch_ms:.4f}",
            _interval(*one.interval_ms),
            f"{one.image_ms:.4f}",
            f"{one.ratio:.2f}",
        )
        for one in measured.batches
    )
    first = measured.batches[0]
    explained = "" if measured.is_one_value else "; compacted: images that leave are taken out of the batch"
    return Table(f"batches of {first.batch}, {first.batches} of them{explained}", columns, rows)


def _how_table(report: LatencyReport) -> Table:
    """Return a table of how it was measured, with raw times, energy and memory."""
    latency, used = report.measured.latency, report.resources
    memory = used.no_memory if used.peak_memory_mib is None else f"{used.peak_memory_mib:.1f} MiB"
    energy = used.no_energy if used.energy_mj is None else f"{used.energy_mj:.3g} mJ a call"
    rows = (
        ("rounds", str(latency.rounds)),
        ("outliers left out", str(latency.outliers)),
        ("raw times: median", f"{latency.plain_median_ms} ms"),
        ("raw times: 10th percentile", f"{latency.plain_low_ms} ms"),
        ("raw times: between the quartiles", f"{latency.repeats.iqr_ms:.4g} ms"),
        ("times the anchors", f"{latency.ratio:.4f}"),
        ("peak memory", memory),
        ("energy", energy),
        *((("clock and heat", str(report.throttling)),) if report.throttling else ()),
        *((("execution provider", str(report.placement)),) if report.placement else ()),
        ("environment", latency.environment),
    )
    return Table("how it was measured", (Column("what"), Column("value")), rows)


def _interval(low: float, high: float) -> str:
    return f"{low:.4f}..{high:.4f}"
