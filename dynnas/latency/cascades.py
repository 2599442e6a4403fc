"""The overhead of running networks in a chain, by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dynnas.data.dataset import Dataset
from dynnas.latency.dependent import follows_torch
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.networks.network import Network
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.runtimes.chaining import Answering, chain
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import TargetSettings

ALWAYS, NEVER = 0.0, 2.0
"""Thresholds at which every image leaves, and none."""

FEW_IMAGES = 16
AS_LONG = 2
"""Timing budget per network, relative to a search trial: differences of a few microseconds count."""


@dataclass(frozen=True)
class Overhead:
    """The overhead of a chain beside its networks, in the unit of their costs.

    Attributes:
        leave: of a decision after which the image leaves.
        later: for each network, of running it after another one: the decision before it, and that runtimes
            plan the memory of a branch less well, but for one call that is saved.
        resize: for each network, of making its image where the networks of a chain take different sizes.
    """

    leave: float
    later: tuple[float, ...]
    resize: tuple[float, ...]

    @staticmethod
    def nothing(networks: int) -> Overhead:
        """Return the overhead in multiply-adds, which is zero: decisions have none worth counting."""
        return Overhead(0.0, (0.0,) * networks, (0.0,) * networks)


def measure_overhead(
    networks: Sequence[Network], dataset: Dataset, meter: LatencyMeter, answering: Answering | None = None
) -> Overhead:
    """Time every network alone, after the module that makes its image, and after another network.

    All are timed in the same rounds. What is returned are medians of differences within rounds: on a machine
    with other work the means of networks of 1 and 10 ms move by more than the overhead.

    Args:
        networks: two or more, calibrated, in eval mode, the fastest first.
        dataset: whose search images are run.
        meter: of the target.
        answering: as `chain` takes it.

    Raises:
        TargetError: the target runs no cascades.
    """
    everyone = range(len(networks))
    leads = [0 if member else 1 for member in everyone]

    def pair(first: int, second: int, threshold: float) -> Cascade:
        return chain((networks[first], networks[second]), (threshold,), ("", ""), dataset.size, answering)

    run: dict[tuple[str, int], Finished] = {("leave", 0): pair(0, 1, ALWAYS)}
    for member, network in enumerate(networks):
        run["alone", member] = network
        run["after", member] = pair(leads[member], member, NEVER)
        if network.config.shape[1:] != dataset.size:
            run["resized", member] = Cascade([network], (), ("",), dataset.size)
    few = range(min(FEW_IMAGES, len(dataset.search.images)))
    workloads = [workload_of(one, dataset, few, meter.target) for one in run.values()]
    timed = meter.measure_rounds(workloads, AS_LONG * meter.target.seconds * len(workloads))
    ms = dict(zip(run, timed, strict=True))

    def more(longer: tuple[str, int], *parts: int) -> float:
        """Return how much longer than some networks alone something takes, in most rounds."""
        return float(np.median(ms[longer] - sum(ms["alone", part] for part in parts)))

    resize = tuple(
        max(0.0, more(("resized", member), member)) if ("resized", member) in run else 0.0
        for member in everyone
    )

    def made(member: int, other: int) -> float:
        """Return the module that makes a network's image in a chain with another one."""
        alike = networks[member].config.shape[1:] == networks[other].config.shape[1:]
        return 0.0 if alike else resize[member]

    later = tuple(
        more(("after", member), lead, member) - made(lead, member) - made(member, lead)
        for member, lead in enumerate(leads)
    )
    return Overhead(max(0.0, more(("leave", 0), 0) - made(0, 1)), later, resize)


def workload_of(
    network: Finished,
    dataset: Dataset,
    images: Sequence[int],
    target: TargetSettings,
    paths: np.ndarray | None = None,
) -> Workload:
    """Return the benchmark of a network or a chain, made ready for `target`, on single search images.

    Args:
        network: calibrated, in eval mode. images: by number.
        paths: (images,) int, which each of them takes, if that is known.
    """
    prepared = prepare_images(network, dataset, dataset.search.images[list(images)]).cpu().numpy()
    known = paths if follows_torch(target) else None
    return Workload(build_runner(network, target), np.split(prepared, len(prepared)), known)
