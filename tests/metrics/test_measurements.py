"""Every registered measurement holds to the contract; any metric can be an objective or a limit by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_study import small_space

from dynnas.candidates.candidate import Candidate, Extractor
from dynnas.data.load import load_data
from dynnas.errors import SpaceError, StudyError, TargetError
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.latency import AnchorReference
from dynnas.latency.meter import LatencyMeter
from dynnas.metric import Metric
from dynnas.metrics.choose import measurements_for
from dynnas.metrics.measurement import Measurement
from dynnas.metrics.resources import Energy
from dynnas.metrics.size import FileSize, Size
from dynnas.pareto.objectives import Goal
from dynnas.runtimes.compile import compile_network
from dynnas.settings.metrics import MEASUREMENTS, METRICS, find_metric, objective_names
from dynnas.settings.settings import TargetSettings, TrainSettings
from dynnas.space.moves import largest
from dynnas.supernet.staged import staged_supernet
from dynnas.testing.measurements import check_measurement
from dynnas.workflows.run import run_study


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    space = small_space(tmp_path_factory.mktemp("space"))
    supernet = staged_supernet(space, channels=1, classes=10).eval()
    target = TargetSettings(seconds=0.02, images=8)
    extractor = Extractor(
        supernet, load_data(space.settings.data), TrainSettings(calibration_images=64), target
    )
    return extractor.candidate(largest(space))


@pytest.fixture(scope="module")
def meter(candidate: Candidate, tmp_path_factory: pytest.TempPathFactory) -> LatencyMeter:
    space = small_space(tmp_path_factory.mktemp("meter"))
    anchors = build_anchors(space, candidate.target, channels=1, classes=10)
    return LatencyMeter(candidate.target, anchors, AnchorReference(1.0, "here"))


@pytest.mark.parametrize("name", sorted({*MEASUREMENTS} - {"energy", "placement"}))
def test_registered_measurements_hold_to_the_contract(
    name: str, candidate: Candidate, meter: LatencyMeter
) -> None:
    check_measurement(MEASUREMENTS[name].create(meter), candidate)


def test_metrics_of_dynnas_are_known_before_a_measurement_is_loaded() -> None:
    for measurement in MEASUREMENTS.values():
        for metric in measurement.gives:
            assert METRICS[metric.name] is metric


def test_sizes_are_those_of_the_network_and_of_its_file(candidate: Candidate) -> None:
    parameters = sum(parameter.numel() for parameter in candidate.network.parameters())
    assert Size().measure(candidate)["params"] == parameters
    written = compile_network(candidate.calibrated, candidate.target)
    assert candidate.artifact is candidate.artifact
    assert FileSize().measure(candidate)["file_mib"] == pytest.approx(len(written.data) / 2**20, rel=1e-3)


def test_energy_says_why_it_cannot_be_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dynnas.latency.energy import energy_counter

    monkeypatch.setattr(
        "dynnas.metrics.resources.energy_counter", lambda device: energy_counter(device, tmp_path)
    )
    with pytest.raises(TargetError, match=r"energy_mj cannot be measured here: .*no energy counter"):
        Energy().check(TargetSettings())


class Depth(Measurement):
    """The number of convolutions."""

    gives = (Metric("convolutions", "layers", "minimize", "number of convolutions"),)
    needs = "network"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        return {
            "convolutions": sum(isinstance(part, torch.nn.Conv2d) for part in candidate.network.modules())
        }


class Untrue(Measurement):
    """Says that it gives what it does not."""

    gives = (Metric("roundness", "share", "maximize", "how round it is"),)

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        return {}


def test_the_suite_finds_what_is_wrong(candidate: Candidate) -> None:
    with pytest.raises(AssertionError, match="it gives roundness, but did not for this candidate"):
        check_measurement(Untrue(), candidate)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    MEASUREMENTS.load()
    monkeypatch.setitem(MEASUREMENTS._entries, "depth", Depth)


def test_an_own_measurement_holds_to_the_contract(candidate: Candidate) -> None:
    check_measurement(Depth(), candidate)


@pytest.mark.usefixtures("registered")
def test_a_metric_of_an_own_measurement_is_known_by_name(meter: LatencyMeter) -> None:
    assert find_metric("convolutions") == Depth.gives[0]
    assert "convolutions" in objective_names()
    assert Goal.of(("accuracy", "convolutions")).objectives[1].direction == "minimize"
    (added,) = measurements_for(("accuracy", "convolutions"), [MEASUREMENTS["score"]()], meter)
    assert isinstance(added, Depth)
    with pytest.raises(StudyError, match=r"no measurement gives 'convolution' \(did you mean 'convolutions'"):
        measurements_for(("convolution",), [], meter)


NETWORK = "input: {resolutions: 8}\nstem: {width: 4}\nstages: [{width: 8}]\nhead: {width: 8}\n"


@pytest.mark.usefixtures("registered")
def test_space_files_name_any_metric() -> None:
    text = NETWORK + "search: {objectives: [accuracy, convolutions], constraints: {peak_memory_mib: 20}}"
    settings = parse_space(text).settings.search
    assert settings.objectives == ("accuracy", "convolutions")
    assert settings.constraints == {"peak_memory_mib": 20.0}
    with pytest.raises(SpaceError, match=r"found 'energy_mJ' \(did you mean 'energy_mj'"):
        parse_space(NETWORK + "search: {objectives: [accuracy, energy_mJ]}")


@pytest.mark.usefixtures("registered")
def test_a_study_searches_for_metrics_by_name(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "trials": 4,
        "controls": False,
        "objectives": ("accuracy", "convolutions"),
        "constraints": {"file_mib": 1.0},
    }
    space = small_space(tmp_path, train={"epochs": 1}, search=changes)
    study = run_study(space, folder=tmp_path / "study")
    assert len(study.candidates) == 4
    for found in study.candidates:
        network = study.candidate(found.key).network
        assert found.metrics["convolutions"] == sum(
            isinstance(part, torch.nn.Conv2d) for part in network.modules()
        )
        assert 0 < found.metrics["file_mib"] <= 1.0
