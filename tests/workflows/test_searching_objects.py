"""`dynnas.search` takes objects wherever it takes names."""

from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from optuna.samplers import GridSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from support.small_study import small_space
from support.tables import Table, conditional_space, grid_space

import dynnas
from dynnas.candidates.candidate import Candidate
from dynnas.data.load import load_data
from dynnas.errors import StudyError
from dynnas.metric import Metric
from dynnas.metrics.measurement import Measurement
from dynnas.settings.settings import TrainSettings
from dynnas.study.front import StudyFront


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(seed=1),
        TPESampler(seed=1, n_startup_trials=4),
        NSGAIISampler(seed=1, population_size=6),
        GridSampler({gene.name: list(gene.values) for gene in grid_space().choices}, seed=1),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_any_optuna_sampler_proposes_every_architecture_once(sampler: optuna.samplers.BaseSampler) -> None:
    storage = InMemoryStorage()
    space = grid_space()
    dynnas.search(space, Table(), sampler=sampler, trials=20, storage=storage, name="once")
    trials = optuna.load_study(study_name="once", storage=storage).trials
    assert len({tuple(trial.params.items()) for trial in trials}) == len(trials) == 20


def test_an_optuna_sampler_meets_conditional_choices() -> None:
    space = conditional_space()
    front = dynnas.search(space, Table(), sampler=TPESampler(seed=0, n_startup_trials=5), trials=25)
    assert len(front) > 0
    for member in front:
        assert space.architecture(dict(member.architecture)) == member.architecture


def test_a_sampler_object_hears_of_its_trials() -> None:
    class Heard(RandomSampler):
        begun = ended = 0

        def before_trial(self, study, trial):
            self.begun += 1

        def after_trial(self, study, trial, state, values):
            self.ended += 1

    sampler = Heard(seed=0)
    dynnas.search(grid_space(), Table(), sampler=sampler, trials=5)
    assert (sampler.begun, sampler.ended) == (5, 5)


def test_a_storage_object_keeps_the_trials(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    first = dynnas.search(grid_space(), Table(), trials=8, storage=storage)
    table = Table()
    assert dynnas.search(grid_space(), table, trials=8, storage=storage) == first
    assert len(optuna.load_study(study_name=grid_space().name, storage=storage).trials) == 8


def test_what_belongs_to_a_supernet_is_refused_with_an_evaluator() -> None:
    with pytest.raises(StudyError, match="target belong to a search with a supernet; leave them out"):
        dynnas.search(grid_space(), Table(), target=dynnas.Target("cpu"))


class Bytes(Measurement):
    """What the weights take."""

    gives = (Metric("weight_kib", "KiB", "minimize", "size of the weights in memory"),)
    needs = "network"

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        return {"weight_kib": sum(one.numel() * 4 for one in candidate.network.parameters()) / 1024}


def test_a_supernet_is_searched_with_objects(tmp_path: Path) -> None:
    space = small_space(tmp_path)
    data = load_data(space.settings.data)
    storage = InMemoryStorage()
    front = dynnas.search(
        space,
        data=data,
        target=dynnas.Target("cpu", seconds=0.02),
        train=TrainSettings(epochs=1, batch=64, calibration_images=64),
        measurements=[Bytes()],
        objectives=("accuracy", "weight_kib"),
        limits={"latency_ms": 1000.0},
        sampler=RandomSampler(seed=3),
        trials=5,
        controls=False,
        storage=storage,
        folder=tmp_path / "study",
    )
    assert isinstance(front, StudyFront)
    assert (
        len(front.study.candidates) == len(optuna.load_study(study_name="study", storage=storage).trials) == 5
    )
    for member in front:
        network = front.study.network(member.key)
        weights = sum(one.numel() * 4 for one in network.parameters()) / 1024
        assert member.metrics["weight_kib"] == pytest.approx(weights)
    assert front.study.load("knee")(data.search.images[:3]).shape == (3, 10)

    again = dynnas.open_study(tmp_path / "study")
    with pytest.raises(StudyError, match=r"its data were no files but objects; open it by open_study\("):
        again.network(front[0].key)
    given = dynnas.open_study(tmp_path / "study", data=data, storage=storage, measurements=[Bytes()])
    assert given.goal.objectives[1].name == "weight_kib"
    assert not given.network(front[0].key).training
