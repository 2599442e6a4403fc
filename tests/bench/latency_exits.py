"""Networks with exits: the latency expected from counts and per-exit times, against the measured mean.

    python tests/bench/latency_exits.py [--study STUDY] [--networks 12] [--images 1000] [--epochs 6]

Networks of a supernet (of a study, or trained here for a few epochs on digits in the space of
spaces/exits.yaml), spread out by the share of images that leave early. The images are counted; the time of
each exit is measured on a few *other* images; the two give the expected mean. It stands beside two measured
means over all images at batch 1: *repeated*, each image as the meter times everything, after an untimed run
of its own; and *stream*, the time of a loop over all images in their order, in which exits alternate and no
run follows its like. All are ratios to the same anchors.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dynnas.data import Dataset, load_data
from dynnas.measure import LatencyMeter, Subject, build_anchors, prepare_images
from dynnas.measure.dependent import Ways, expected_ms, measure_ways, ways_of
from dynnas.ops import Network
from dynnas.runtime import build_runner
from dynnas.search import open_study
from dynnas.search.supernet_evaluator import calibrated_network
from dynnas.space import Settings, load_space, sample
from dynnas.supernet import Supernet
from dynnas.training import train_supernet

SPACE = Path(__file__).parents[2] / "spaces/exits.yaml"
WITHIN = 0.05
DRAWN_FOR_EACH = 4
STREAM_SECONDS = 4.0


@dataclass(frozen=True)
class Row:
    """One network: shares of the images, and milliseconds an image."""

    shares: tuple[float, ...]
    expected_ms: float
    repeated_ms: float
    stream_ms: float

    def differences(self) -> tuple[float, float]:
        """Of the expected to each measured mean, as parts of that."""
        return self.expected_ms / self.repeated_ms - 1, self.expected_ms / self.stream_ms - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Print the check; 0 if every network is within 5%."""
    args = _arguments(argv)
    supernet, dataset, settings = _of_study(args.study) if args.study else _trained(args)
    target = settings.target
    meter = LatencyMeter(target, build_anchors(target, dataset.channels, dataset.resolution))
    print(f"environment {meter.reference.environment}, anchors {meter.reference.anchor_ms:.4f} ms")
    rows = []
    for network, ways in spread(supernet, dataset, settings, args):
        rows.append(row_of(network, ways, dataset, settings, meter, args.images))
        print(_line(rows[-1]), flush=True)
    return _verdict(rows)


def row_of(
    network: Network, ways: Ways, dataset: Dataset, settings: Settings, meter: LatencyMeter, count: int
) -> Row:
    """Count and time one network."""
    target = settings.target
    images = prepare_images(network, dataset, dataset.search.images[:count])
    others = prepare_images(network, dataset, dataset.train.images)
    runner = build_runner(network, target)
    times = measure_ways(meter, runner, others.numpy(), ways_of(network, others), ways.shares)
    each = [image[None].numpy() for image in images]
    latency, _ = meter.measure_images(Subject(runner, each), target.seconds * len(each) / target.images)

    def stream(images: np.ndarray) -> None:
        for image in each:
            runner(image)

    passed, _ = meter.measure_images(Subject(stream, [images.numpy()]), STREAM_SECONDS)
    return Row(ways.shares, expected_ms(times), latency.mean_ms, passed.mean_ms / len(each))


def spread(
    supernet: Supernet, dataset: Dataset, settings: Settings, args: argparse.Namespace
) -> list[tuple[Network, Ways]]:
    """Networks with exits, at even quantiles of the share that leaves early, and the ways of the images."""
    rng = random.Random(args.seed)
    drawn: dict[str, tuple[Network, Ways]] = {}
    while len(drawn) < DRAWN_FOR_EACH * args.networks:
        architecture = sample(supernet.space, rng)
        if not supernet.config(architecture).exits or architecture.key in drawn:
            continue
        network = calibrated_network(supernet, architecture, dataset, settings.train)
        images = prepare_images(network, dataset, dataset.search.images[: args.images])
        drawn[architecture.key] = network, ways_of(network, images)
    ordered = sorted(drawn.values(), key=lambda pair: pair[1].shares[-1])
    places = np.linspace(0, len(ordered) - 1, args.networks).round().astype(int)
    return [ordered[place] for place in places]


def _of_study(name: str) -> tuple[Supernet, Dataset, Settings]:
    study = open_study(name)
    return study.supernet, study.dataset, study.settings


def _trained(args: argparse.Namespace) -> tuple[Supernet, Dataset, Settings]:
    space = load_space(SPACE)
    settings = replace(
        space.settings,
        data=replace(space.settings.data, search_images=args.images),
        train=replace(space.settings.train, epochs=args.epochs, calibration_images=256),
    )
    space = replace(space, settings=settings)
    dataset = load_data(settings.data)
    supernet = Supernet(space, dataset.channels, dataset.classes)
    with tempfile.TemporaryDirectory() as folder:
        train_supernet(supernet, dataset, settings.train, Path(folder))
    return supernet, dataset, settings


def _line(row: Row) -> str:
    repeated, stream = row.differences()
    shares = " ".join(f"{100 * share:3.0f}" for share in row.shares)
    return (
        f"leave at each exit, head {shares:12} %  expected {row.expected_ms:.4f} ms  "
        f"repeated {row.repeated_ms:.4f} ({100 * repeated:+.1f}%)  "
        f"stream {row.stream_ms:.4f} ({100 * stream:+.1f}%)"
    )


def _verdict(rows: Sequence[Row]) -> int:
    columns = list(zip(*(map(abs, row.differences()) for row in rows), strict=True))
    for name, column in zip(("repeated", "stream"), columns, strict=True):
        print(
            f"expected against {name}, {len(rows)} networks: "
            f"median {100 * statistics.median(column):.1f}%, worst {100 * max(column):.1f}%"
        )
    kept = max(max(column) for column in columns) <= WITHIN
    print(f"every network within {WITHIN:.0%}: {'yes' if kept else 'NO'}")
    return 0 if kept else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", help="name under studies, or a folder; its own splits and target are used")
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6, help="of the supernet that is trained here")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
