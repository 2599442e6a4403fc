"""The latency of a study's network on real images, on the study's scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dynnas.candidates.candidate import int8_images
from dynnas.errors import StudyError
from dynnas.latency.dependent import DependentLatency, measure_dependent
from dynnas.latency.remote.timer import clock_of
from dynnas.latency.resources import Resources, measure_resources, placements
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import load_runner
from dynnas.latency.throttling import Throttling
from dynnas.runtimes.compile import compile_network
from dynnas.runtimes.onnx.placement import Placement
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.search.evaluators.supernet import open_meter
from dynnas.study.study import Study


@dataclass(frozen=True)
class NetworkLatency:
    """A network's latency on real images, with its energy and memory.

    Attributes:
        placement: what an execution provider runs of the graph, if the runtime has one.
        throttling: clock and heat of the device before and after; None where nobody looked.
    """

    measured: DependentLatency
    resources: Resources
    placement: Placement | None = None
    throttling: Throttling | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all values under their names, for JSON."""
        placed = {"placement": asdict(self.placement)} if self.placement else {}
        heat = {"throttling": asdict(self.throttling)} if self.throttling else {}
        return {**self.measured.to_dict(), **asdict(self.resources), **placed, **heat}


def latency_of(study: Study, key: str, *, images: int = 256, batch: int = 32) -> NetworkLatency:
    """Time a network on search images: one by one, by exit, and in batches, with energy and memory.

    Args:
        study: with a trained supernet.
        key: of a network of the study.
        images: how many to time; the exits of all search images are counted.
        batch: images in a batch.

    Raises:
        StudyError: there is no such key, a batch is larger than the search split, or the study's latencies
            were measured in another environment.
        TargetError: the target cannot be used on this machine.
    """
    dataset = study.dataset
    if batch > len(dataset.search):
        raise StudyError(f"--batch: found {batch}, but {study.name} has {len(dataset.search)} search images")
    meter = open_meter(study.folder.anchors, study.space, dataset)
    candidate = study.candidate(key)
    network = candidate.calibrated
    images_of_int8 = int8_images(network, dataset, study.settings.train) if candidate.quantized else None
    artifact = compile_network(network, meter.target, int8_images=images_of_int8)
    prepared = prepare_images(network, dataset, dataset.search.images)
    before = clock_of(meter.target)
    measured = measure_dependent(
        network, prepared, meter, meter.target, images, batch, artifact if candidate.quantized else None
    )
    throttling = Throttling(before, clock_of(meter.target))
    runner = load_runner(network, artifact, meter.target)
    workload = Workload(runner, [prepared[: meter.target.batch].cpu().numpy()])
    (resources,) = measure_resources([network], [workload], meter.target, [artifact])
    (placement,) = placements([workload], meter.target)
    return NetworkLatency(measured, resources, placement, throttling)
