"""Networks with exits: the latency expected from counts and per-exit times, against the measured mean.

    python tests/bench/latency_exits.py [--study STUDY] [--networks 12] [--images 1000] [--clock wall]

Networks of a supernet: of a study, or trained here for a few epochs on digits in the space of
spaces/exits.yaml, with thresholds that spread out the share of images that leave early. The images are
counted; the time of each exit is measured on a few *other* images; the two give the expected mean. It stands
beside the mean over all images at batch 1, measured twice: *repeated*, each image as the meter times
everything, after an untimed run of its own; and *loop*, as in a program that runs one image after the other,
exits alternating: loops over 10 images, each timed as one. All are taken in the same rounds.

Where other programs take the processor in turns, `--clock processor` counts only the process's own time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.language.parser import load_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.dependent import way_workloads, ways_of
from dynnas.latency.meter import LatencyMeter, LocalTimer
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.networks.network import Network
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import Settings
from dynnas.space.moves import sample
from dynnas.study.study import open_study
from dynnas.supernet.staged import staged_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.training.start import train_supernet

SPACE = Path(__file__).parents[2] / "spaces/exits.yaml"
WITHIN = 0.05
LOOP = 10
MEASURED = ("repeated", "loop")
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass(frozen=True)
class Row:
    """One network: shares of the images, and milliseconds an image."""

    shares: tuple[float, ...]
    expected_ms: float
    measured_ms: tuple[float, float]

    def differences(self) -> tuple[float, ...]:
        """Of the expected to each measured mean, as parts of that."""
        return tuple(self.expected_ms / measured - 1 for measured in self.measured_ms)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the check; 0 if every network is within 5%."""
    args = _arguments(argv)
    supernet, dataset, settings = _of_study(args.study) if args.study else _trained(args)
    target = settings.target
    timer = LocalTimer(target.device, clock=CLOCKS[args.clock])
    anchors = build_anchors(supernet.space, target, dataset.channels, dataset.task.outputs)
    meter = LatencyMeter(replace(target, seconds=args.seconds, precision=0), anchors, timer=timer)
    print(f"environment {meter.reference.environment}, anchors {meter.reference.anchor_ms:.4f} ms")
    rows = []
    drawn = networks_with_exits(supernet, dataset, settings, args.seed)
    networks = islice(drawn, args.networks)
    for place, network in enumerate(networks, start=1):
        if not args.study:
            let_leave(network, dataset, share=place / (args.networks + 1))
        rows.append(row_of(network, dataset, settings, meter, args.images))
        print(_line(rows[-1]), flush=True)
    return _verdict(rows)


def row_of(network: Network, dataset: Dataset, settings: Settings, meter: LatencyMeter, count: int) -> Row:
    """Count and time one network."""
    target = settings.target
    images = prepare_images(network, dataset, dataset.search.images[:count])
    others = prepare_images(network, dataset, dataset.train.images)
    runner = build_runner(network, target)
    ways = ways_of(network, images)
    pixels = images.numpy()

    def loop(images: np.ndarray) -> None:
        for number in range(LOOP):
            runner(images[number : number + 1])

    # An exit that none of the other images takes is hardly taken by these.
    timed = way_workloads(runner, others.numpy(), ways_of(network, others))
    measured = [
        Workload(runner, np.split(pixels, len(pixels))),
        Workload(loop, [pixels[at : at + LOOP] for at in range(0, len(pixels) - LOOP + 1, LOOP)]),
    ]
    means_ms = [latency.mean_ms for latency in meter.measure_jointly([*timed.values(), *measured])]
    expected = sum(ways.shares[way] * ms for way, ms in zip(timed, means_ms, strict=False))
    repeated, looped = means_ms[len(timed) :]
    return Row(ways.shares, expected, (repeated, looped / LOOP))


def networks_with_exits(
    supernet: Supernet, dataset: Dataset, settings: Settings, seed: int
) -> Iterator[Network]:
    """Random ones, calibrated."""
    rng = random.Random(seed)
    while True:
        architecture = sample(supernet.space, rng)
        if supernet.build.config(architecture).exits:
            yield calibrated_network(supernet, architecture, dataset, settings.train)


@torch.no_grad()
def let_leave(network: Network, dataset: Dataset, share: float) -> None:
    """Set the thresholds so that this share of the images that reach an exit leaves there."""
    *early, _ = network.logits(prepare_images(network, dataset, dataset.search.images))
    stays, exits = torch.ones(len(dataset.search), dtype=torch.bool), []
    for place, logits in zip(network.config.exits, early, strict=True):
        confidence = logits.softmax(1).amax(1)
        exits.append(replace(place, threshold=confidence[stays].quantile(1 - share).item()))
        stays &= confidence < exits[-1].threshold
    network.config = replace(network.config, exits=tuple(exits))


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
    supernet = staged_supernet(space, dataset.channels, dataset.task.outputs)
    with tempfile.TemporaryDirectory() as folder:
        train_supernet(supernet, dataset, settings.train, Path(folder))
    return supernet, dataset, settings


def _line(row: Row) -> str:
    shares = " ".join(f"{100 * share:3.0f}" for share in row.shares)
    measured = "  ".join(
        f"{name} {ms:.4f} ({100 * difference:+.1f}%)"
        for name, ms, difference in zip(MEASURED, row.measured_ms, row.differences(), strict=True)
    )
    return f"leave at each exit, head {shares:12} %  expected {row.expected_ms:.4f} ms  {measured}"


def _verdict(rows: Sequence[Row]) -> int:
    columns = list(zip(*(map(abs, row.differences()) for row in rows), strict=True))
    for name, column in zip(MEASURED, columns, strict=True):
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
    parser.add_argument("--seconds", type=float, default=3.0, help="for each of the times of a network")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
