"""A candidate's parts are made once: counted by what the supernet extracts and what is calibrated."""

import pickle
import random
from pathlib import Path

import pytest
import torch
from support.small_study import small_space

from dynnas.candidates import candidate as module
from dynnas.candidates.candidate import KEPT, Extractor, calibrated_network
from dynnas.candidates.statistics import pack_statistics, statistics_of, unpack_statistics
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.search.cache import Cache, StatisticsFile
from dynnas.settings.settings import TrainSettings
from dynnas.space.moves import largest, sample
from dynnas.supernet.staged import staged_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.workflows.run import run_study

TRAIN = TrainSettings(calibration_images=64)


@pytest.fixture(scope="module")
def dataset(supernet: Supernet) -> Dataset:
    return load_data(supernet.space.settings.data)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    return staged_supernet(small_space(tmp_path_factory.mktemp("space")), channels=1, classes=10).eval()


class Counter:
    """Counts extractions by architecture, and calibrations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.extracted: list[str] = []
        self.calibrated = 0
        extract, calibrate = Supernet.extract, module.calibrate

        def counted_extract(supernet, architecture, open_gates=False):
            self.extracted.append(architecture.key)
            return extract(supernet, architecture, open_gates=open_gates)

        def counted_calibrate(network, images):
            self.calibrated += 1
            return calibrate(network, images)

        monkeypatch.setattr(Supernet, "extract", counted_extract)
        monkeypatch.setattr(module, "calibrate", counted_calibrate)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


def test_everybody_gets_the_same_parts(supernet: Supernet, dataset: Dataset, counter: Counter) -> None:
    extractor = Extractor(supernet, dataset, TRAIN)
    architecture = largest(supernet.space)
    first = extractor.candidate(architecture)
    assert first is extractor.candidate(architecture)
    assert first.network is first.calibrated
    assert first.calibrated is extractor.candidate(architecture).calibrated
    assert (counter.extracted, counter.calibrated) == ([architecture.key], 1)


def test_a_copy_belongs_to_the_caller(supernet: Supernet, dataset: Dataset) -> None:
    candidate = Extractor(supernet, dataset, TRAIN).candidate(largest(supernet.space))
    copied = candidate.copy()
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(
            copied.state_dict().values(), candidate.calibrated.state_dict().values(), strict=True
        )
    )
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert any(parameter.any() for parameter in candidate.calibrated.parameters())


def test_statistics_are_kept_between_processes(
    supernet: Supernet, dataset: Dataset, counter: Counter, tmp_path: Path
) -> None:
    architecture = largest(supernet.space)
    cache = Cache(tmp_path / "cache.db")
    before = Extractor(supernet, dataset, TRAIN, store=cache).candidate(architecture).calibrated
    again = Extractor(supernet, dataset, TRAIN, store=StatisticsFile(tmp_path / "cache.db"))
    after = again.candidate(architecture).calibrated
    assert counter.calibrated == 1
    images = dataset.normalise(dataset.search.images[:8])
    assert torch.equal(before(images), after(images))
    other = TrainSettings(calibration_images=32)
    assert Extractor(supernet, dataset, other, store=cache).candidate(architecture).calibrated is not after
    assert counter.calibrated == 2  # statistics of other images are others
    cache.close()


def test_adopted_statistics_are_not_computed(supernet: Supernet, dataset: Dataset, counter: Counter) -> None:
    architecture = largest(supernet.space)
    there = calibrated_network(supernet, architecture, dataset, TRAIN)
    here = Extractor(supernet, dataset, TRAIN).candidate(architecture)
    here.adopt(unpack_statistics(pack_statistics(statistics_of(there))))
    images = dataset.normalise(dataset.search.images[:8])
    assert torch.equal(here.calibrated(images), there(images))
    assert counter.calibrated == 1


def test_open_gates_make_another_candidate(supernet: Supernet, dataset: Dataset) -> None:
    extractor = Extractor(supernet, dataset, TRAIN)
    architecture = largest(supernet.space)
    opened = extractor.candidate(architecture, open_gates=True)
    assert opened is not extractor.candidate(architecture)
    assert opened.key == f"{architecture.key} with open gates"


def test_only_the_latest_are_kept(supernet: Supernet, dataset: Dataset, counter: Counter) -> None:
    extractor, rng = Extractor(supernet, dataset, TRAIN), random.Random(0)
    drawn = list(dict.fromkeys(sample(supernet.space, rng) for _ in range(20 * KEPT)))[: KEPT + 1]
    assert len(drawn) == KEPT + 1
    for architecture in drawn:
        assert extractor.candidate(architecture).network
    assert extractor.candidate(drawn[-1]).network
    assert extractor.candidate(drawn[0]).network  # was let go
    assert counter.extracted == [architecture.key for architecture in (*drawn, drawn[0])]


def test_a_pickled_extractor_has_candidates_of_its_own(
    supernet: Supernet, dataset: Dataset, tmp_path: Path
) -> None:
    extractor = Extractor(supernet, dataset, TRAIN, store=StatisticsFile(tmp_path / "cache.db"))
    made = extractor.candidate(largest(supernet.space))
    other = pickle.loads(pickle.dumps(extractor))
    assert other.store is None
    images = dataset.normalise(dataset.search.images[:4])
    assert torch.equal(other.candidate(made.architecture).calibrated(images), made.calibrated(images))


def test_a_study_makes_every_network_once(counter: Counter, tmp_path: Path) -> None:
    space = small_space(tmp_path, train={"epochs": 1}, search={"trials": 4, "controls": False})
    study = run_study(space, folder=tmp_path / "study")
    scored = {candidate.key for candidate in study.candidates}
    assert sorted(counter.extracted) == sorted(scored)  # tested and timed again, but not made again
    assert counter.calibrated == len(scored)
    extracted = len(counter.extracted)
    for member in study.front:
        assert not study.network(member.key).training
        assert not study.load(member.key).training
    assert counter.calibrated == len(scored)  # its statistics are kept with the study
    assert len(counter.extracted) == extracted + len(study.front)
