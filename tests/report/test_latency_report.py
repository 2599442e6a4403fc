"""What is said and drawn of a network's times on real images."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
from matplotlib.axes import Axes
from support.figures import legend

from dynnas.latency.dependent import BatchLatency, DependentLatency, WayLatency
from dynnas.latency.interval import Estimate
from dynnas.latency.latency import Latency, Spread
from dynnas.latency.resources import Resources
from dynnas.report.latency import LatencyReport, histogram_of
from dynnas.report.plots.histogram import Histogram, draw_histogram
from dynnas.settings.settings import Settings
from dynnas.study.folder import StudyFolder

LATENCY = Latency(
    mean_ms=0.5,
    median_ms=0.4,
    p95_ms=0.9,
    worst_ms=1.0,
    interval_ms=(0.49, 0.51),
    ratio=5.0,
    plain_median_ms=Estimate(0.5, 0.4, 0.6),
    plain_low_ms=Estimate(0.5, 0.4, 0.6),
    repeats=Spread(0.5, 0.9, 1.0, 0.1),
    rounds=60,
    outliers=0,
    environment="here",
)
MEASURED = DependentLatency(
    latency=LATENCY,
    image_ms=(0.4, 0.4, 0.4, 1.0),
    image_ways=(0, 0, 0, 2),
    image_macs=(),
    ways=(
        WayLatency("stage1", 0.7, 0.41, (0.4, 0.42)),
        WayLatency("stage2", 0.0, None, None),
        WayLatency("head", 0.3, 0.99, (0.98, 1.0)),
    ),
    counted=100,
    expected_ms=0.52,
    batches=(
        BatchLatency("masked", 8, 2, 4.0, (3.9, 4.1), 0.5, 1.0),
        BatchLatency("compacted", 8, 2, 2.0, (1.9, 2.1), 0.25, 0.5),
    ),
)
ALIKE = replace(
    MEASURED, image_ms=(0.5,), image_ways=(0,), ways=(WayLatency("head", 1.0, 0.5, (0.49, 0.51)),), batches=()
)


def report(measured: DependentLatency, folder: Path = Path("digits")) -> LatencyReport:
    study = SimpleNamespace(name="digits", settings=Settings(), folder=StudyFolder(folder))
    return LatencyReport(study, "abc", measured, Resources(None, "no counter", 12.25, ""))  # type: ignore[arg-type]


def test_the_distribution_over_images() -> None:
    images, *_ = report(MEASURED).tables()
    assert images.title == "abc of digits on cpu, threads: 1: one image at a time, really branching"
    cells = dict(zip((column.name for column in images.columns), images.rows[0], strict=True))
    assert cells == {
        "images": "4",
        "mean ms": "0.5000",
        "95% interval": "0.4900..0.5100",
        "p50": "0.4000",
        "p95": "0.9000",
        "worst": "1.0000",
    }


def test_exits_and_the_mean_that_they_let_expect() -> None:
    _, ways, *_ = report(MEASURED).tables()
    assert ways.title == ("by exit, 100 images counted: expected mean 0.5200 ms (+4.0% of the measured one)")
    assert ways.rows == (
        ("stage1", "70.0", "0.4100", "0.4000..0.4200"),
        ("stage2", "0.0", "", ""),
        ("head", "30.0", "0.9900", "0.9800..1.0000"),
    )


def test_quarters_of_the_images_by_what_gates_leave_them_to_do() -> None:
    gated = replace(
        MEASURED,
        image_ms=(1.0, 0.4, 0.6, 0.5, 0.7, 0.3, 0.9, 0.8),
        image_ways=(0,) * 8,
        image_macs=(4000, 1000, 2500, 1000, 2500, 1000, 4000, 3000),
        ways=(WayLatency("head", 1.0, 0.65, (0.6, 0.7)),),
    )
    _, quarters, histogram, *_ = report(gated).tables()
    assert quarters.title == "images by their multiply-adds, in quarters"
    assert quarters.rows == (
        ("2", "1 k", "25.0", "0.4500", "47.4"),
        ("2", "1.75 k", "43.8", "0.4500", "47.4"),
        ("2", "2.75 k", "68.8", "0.7500", "78.9"),
        ("2", "4 k", "100.0", "0.9500", "100.0"),
    )
    assert histogram.title == "images by their time"


def test_the_histogram_counts_every_image_once() -> None:
    _, _, histogram, *_ = report(MEASURED).tables()
    assert [column.name for column in histogram.columns] == ["ms from", "stage1", "stage2", "head", "images"]
    first, *between, last = histogram.rows
    assert first == ("0.4000", "3", "", "", "█" * 40)
    assert last[1:] == ("", "", "1", "█" * 14)
    assert all(row[1:] == ("", "", "", "") for row in between)


def test_batches_masked_and_compacted() -> None:
    batches = report(MEASURED).tables()[-2]
    assert batches.title == "batches of 8, 2 of them; compacted: images that leave are taken out of the batch"
    assert batches.rows == (
        ("masked", "4.0000", "3.9000..4.1000", "0.5000", "1.00"),
        ("compacted", "2.0000", "1.9000..2.1000", "0.2500", "0.50"),
    )


def test_one_value_is_said_to_be_one() -> None:
    only, _ = report(ALIKE).tables()
    assert only.title == "abc of digits on cpu, threads: 1: the same work for every image, so one value"
    assert only.rows == (("0.5000", "0.4900..0.5100"),)


def test_how_it_was_measured() -> None:
    how = dict(report(MEASURED).tables()[-1].rows)
    assert how["raw times: median"] == "0.5 [0.4, 0.6] ms"
    assert (how["rounds"], how["outliers left out"], how["environment"]) == ("60", "0", "here")
    assert (how["peak memory"], how["energy"]) == ("12.2 MiB", "no counter")


def test_the_plot_has_colours_by_exit_and_lines(axes: list[Axes]) -> None:
    draw_histogram(histogram_of(report(MEASURED)), Path("unused.png"))
    assert legend(axes[0]) == [
        "stage1 (75%)",
        "head (25%)",
        "95% interval of the mean, 0.49..0.51",
        "mean 0.5",
        "p50 0.4",
        "p95 0.9",
    ]
    assert [line.get_xdata()[0] for line in axes[0].lines] == [0.5, 0.4, 0.9]
    counts = [sum(bar.get_height() for bar in group) for group in axes[0].containers]
    assert counts == [3, 1]
    first, second = (group[0].get_facecolor() for group in axes[0].containers)
    assert first != second


def test_the_plot_of_one_value_has_one_line(axes: list[Axes]) -> None:
    draw_histogram(histogram_of(report(ALIKE)), Path("unused.png"))
    assert legend(axes[0]) == ["head (100%)", "95% interval of the mean, 0.49..0.51", "mean 0.5"]


def test_the_plot_is_a_file_of_the_study(tmp_path: Path) -> None:
    path = report(MEASURED, tmp_path).write_plot()
    assert path == tmp_path / "latency/abc.png"
    height, width, _ = matplotlib.image.imread(path).shape
    assert (width, height) == (1275, 675)
    assert StudyFolder(tmp_path).owned() == (tmp_path / "latency",)


def test_a_histogram_needs_no_study(tmp_path: Path) -> None:
    draw_histogram(Histogram("title", {"head": [1.0, 2.0]}, {"mean": 1.5}, (1.4, 1.6)), tmp_path / "h.png")
    assert (tmp_path / "h.png").stat().st_size > 0
