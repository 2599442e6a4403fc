"""Cascades of a study: fitted on search images alone, measured as they ship, kept, and found again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small_study import small_space

from dynnas.data.dataset import Split
from dynnas.errors import StudyError
from dynnas.nn.networks.cost import cost
from dynnas.pareto.front import Front
from dynnas.study import predictions
from dynnas.study.records.cascades import Cascades, read_cascades
from dynnas.study.records.latencies import IMAGE_LATENCY
from dynnas.study.study import Study
from dynnas.workflows.cascades import cascade as cascading
from dynnas.workflows.cascades.cascade import cascade_study
from dynnas.workflows.run import run_study
from dynnas.workflows.train import recipe_of, train_members


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose front has four networks, one with an exit, whatever the clock said."""
    folder = tmp_path_factory.mktemp("cascading")
    space = small_space(
        folder, search={"trials": 12, "controls": False}, data={"search_images": 200, "train_images": 700}
    )
    study = run_study(space, folder=folder / "small")
    early = next(one for one in study.candidates if "exit_share.stage1" in one.metrics)
    others = [one for one in study.candidates if "exit_share.stage1" not in one.metrics]
    others.sort(key=lambda one: one.metrics["accuracy"])
    members = (others[0], early, others[len(others) // 2], others[-1])
    times = {"mean_ms": 0.0, "median_ms": 0.0, "p95_ms": 0.0, "worst_ms": 0.0, "latency_ms": 0.0}
    timed = tuple(
        replace(one, metrics={**one.metrics, **dict.fromkeys(times, 0.02 * (1 + place))})
        for place, one in enumerate(members)
    )
    study.folder.front.write_text(Front(timed, study.goal.objectives).to_json())
    return Study(study.folder)


@pytest.fixture
def study(made, tmp_path):
    """A copy to write into."""
    shutil.copytree(made.folder.path, tmp_path / "small")
    return Study(replace(made.folder, path=tmp_path / "small"))


@pytest.fixture(scope="module")
def cascaded(made, tmp_path_factory):
    """Its cascades, in a copy of their own."""
    path = tmp_path_factory.mktemp("cascaded") / "small"
    shutil.copytree(made.folder.path, path)
    study = Study(replace(made.folder, path=path))
    return study, cascade_study(study, keep=4, size=3)


@torch.no_grad()
def walked(study, cascade, split):
    """Answers right, network reached and MACs of every image of a split, asked network by network."""
    module = study.cascade_network(cascade)
    images = study.dataset.normalise(split.images)
    right, stages, macs = [], [], []
    for image, label in zip(images, split.targets, strict=True):
        spent = 0
        for place, stage in enumerate(module.members):
            thresholds = [exit.threshold for exit in stage.network.config.exits]
            every = stage.network.logits(stage.own(image[None]))
            sure = [float(one.softmax(1).max()) for one in every]
            way = next((at for at, least in enumerate(thresholds) if sure[at] >= least), len(thresholds))
            spent += cost(stage.network.config).exit_macs[way]
            if place == len(cascade.thresholds) or sure[way] >= cascade.thresholds[place]:
                break
        right.append(int(every[way].argmax()) == int(label))
        stages.append(place)
        macs.append(spent)
    return np.array(right), np.array(stages), np.array(macs)


def test_what_is_said_of_a_cascade_is_what_its_networks_do(cascaded):
    study, found = cascaded
    assert 0 < len(found) <= 4
    assert found == study.cascades
    for cascade in found:
        right, stages, macs = walked(study, cascade, study.dataset.search)
        assert cascade.metrics["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
        assert cascade.metrics["expected_macs"] == pytest.approx(macs.mean())
        assert cascade.shares == pytest.approx(np.bincount(stages, minlength=len(cascade.networks)) / 200)
        tested, _, _ = walked(study, cascade, study.dataset.test)
        assert cascade.metrics["test_accuracy"] == pytest.approx(tested.mean(), abs=2e-3)  # ties by rounding


def test_they_beat_the_front_in_what_they_were_chosen_by(cascaded):
    study, found = cascaded
    members = [(one.metrics["accuracy"], one.metrics["mean_ms"]) for one in study.front]
    points = [(one.metrics["accuracy"], one.metrics["latency_ms"]) for one in found]
    for accuracy, ms in points:
        assert not any(a >= accuracy - 1e-9 and t <= ms for a, t in members)
    assert [ms for _, ms in points] == sorted(ms for _, ms in points)
    assert found.hypervolumes["with cascades"] > found.hypervolumes["front"] > 0
    assert found.gain == pytest.approx(found.hypervolumes["with cascades"] / found.hypervolumes["front"] - 1)


def test_they_are_timed_as_one(cascaded):
    _, found = cascaded
    for cascade in found:
        metrics = cascade.metrics
        assert 0 < metrics["median_ms"] <= metrics["p95_ms"] <= metrics["worst_ms"]
        assert 0 < metrics["mean_ms"] <= metrics["worst_ms"]
        assert metrics["joint_ms"] > 0


def test_a_picked_cascade_takes_images_as_they_are(cascaded):
    study, found = cascaded
    cascade = found[len(found) - 1]
    network = study.load(f"cascade:{len(found)}")
    split = study.dataset.search
    with torch.no_grad():
        right = (network(split.images).argmax(1) == split.targets).float().mean().item()
    assert right == pytest.approx(cascade.metrics["accuracy"], abs=1e-6)
    assert found.pick(f"cascade:{cascade.key[:8]}") is cascade
    with pytest.raises(StudyError, match=rf"cascade:99: no cascades .* cascade:1 to cascade:{len(found)}"):
        study.load("cascade:99")


def test_thresholds_know_nothing_of_test_images(study, cascaded):
    other = study.dataset
    turned = Split(255 - other.test.images, other.test.targets.flip(0))
    changed = Study(study.folder)
    changed.__dict__["dataset"] = replace(other, test=turned)
    # What they were timed with, as both are to be computed from the same.
    known = cascaded[1]
    digest = cascading._Cascading(changed, 3, 4, "latency_ms", "inherited", cascading.Progress()).made_of
    study.folder.cascades.write_text(replace(known, made_of=digest).to_json())
    found = cascade_study(changed, keep=4, size=3)
    assert [one.thresholds for one in found] == [one.thresholds for one in known]
    assert [one.networks for one in found] == [one.networks for one in known]
    assert [one.metrics["test_accuracy"] for one in found] != [one.metrics["test_accuracy"] for one in known]


def counted(monkeypatch):
    """The names of what is computed from now on."""
    done = []
    for module, name in ((predictions, "predict"), (cascading, "measure_overhead")):
        real = getattr(module, name)

        def call(*args, _real=real, _name=name, **kwargs):
            done.append(_name)
            return _real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)
    return done


@pytest.mark.slow
def test_nothing_is_computed_twice(cascaded, monkeypatch):
    study, found = cascaded
    done = counted(monkeypatch)
    assert cascade_study(Study(study.folder), keep=4, size=3) == found
    assert done == []
    fewer = cascade_study(Study(study.folder), keep=1, size=2)
    assert (len(fewer), len(fewer[0].networks)) == (1, 2)
    assert set(done) <= {"predict"}  # a network that was in no cascade before is tested
    assert fewer.overhead == found.overhead
    assert cascade_study(Study(study.folder), keep=4, size=3).members[0].networks == found[0].networks


@pytest.mark.slow
def test_an_interrupted_run_goes_on(study, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(cascading._Cascading, "measured", stop)
        with pytest.raises(KeyboardInterrupt, match="in the middle"):
            cascade_study(study, keep=2)
    unmeasured = study.cascades
    assert unmeasured
    assert not any(one.measured for one in unmeasured)
    done = counted(monkeypatch)
    found = cascade_study(Study(study.folder), keep=2)
    assert done == []
    assert all(one.measured for one in found)
    assert [one.key for one in found] == [one.key for one in unmeasured]


@pytest.mark.slow
def test_predictions_of_other_weights_or_damaged_ones_are_made_again(study, monkeypatch):
    cascade_study(study, keep=1, size=2)
    files = sorted(study.folder.predictions.glob("*-search.npz"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:100])
    source = cascading.Source(study, study.front[0].key)
    digest = source.digest("search")
    said = []

    class Told(cascading.Progress):
        def message(self, text):
            said.append(text)

    done = counted(monkeypatch)
    again = Study(study.folder)
    cascade_study(again, keep=1, size=2, progress=Told())
    assert done == ["predict"]
    assert [f"{files[0]}: damaged" in text for text in said] == [True]

    recipe = recipe_of(replace(study.settings.train, epochs=1), "scratch", teacher="none")
    (trained,) = train_members(study, [study.front[0]], recipe)
    other = cascading.Source(study, study.front[0].key, trained)
    assert other.digest("search") != digest
    assert source.digest("test") != digest
    done.clear()
    best = study.weights_of(study.front[0].key, "best")
    cascade_study(Study(study.folder), keep=1, size=2, weights="best")
    assert done.count("predict") >= (1 if best else 0)


@pytest.mark.slow
def test_a_search_for_operations_is_served_too(study):
    found = cascade_study(study, keep=3, by="macs", size=2)
    static = [one.metrics for one in study.front if "expected_macs" not in one.metrics]
    assert found.by == "macs"
    for cascade in found:
        accuracy, macs = cascade.metrics["accuracy"], cascade.metrics["expected_macs"]
        assert not any(one["accuracy"] >= accuracy + 1e-9 and one["macs"] <= macs for one in static)
        assert cascade.metrics["expected_macs"] < cascade.metrics["macs"]
    text = study.folder.front.read_text()
    study.folder.front.write_text(text.replace('"latency_ms": "minimize"', '"macs": "minimize"'))
    assert cascading._cost_of(Study(study.folder)) == "macs"


def test_times_by_exit_are_used_where_they_are_known(study):
    member = next(one for one in study.front if "exit_share.stage1" in one.metrics)
    scale = json.loads(study.folder.anchors.read_text())["environment"]
    study.folder.latency.mkdir(exist_ok=True)
    ways = [{"mean_ms": 0.001}, {"mean_ms": 0.5}]
    document = {"latency": {"environment": scale}, "ways": ways}
    (study.folder.latency / f"{member.key}.json").write_text(IMAGE_LATENCY.write(document))

    def ms(opened):
        made = cascading._Cascading(opened, 2, 1, "latency_ms", "inherited", cascading.Progress())
        return made.ms[[one.key for one in made.members].index(member.key)].tolist()

    assert ms(Study(study.folder)) == [0.001, 0.5]
    document["latency"]["environment"] = "another machine"
    (study.folder.latency / f"{member.key}.json").write_text(IMAGE_LATENCY.write(document))
    assert ms(Study(study.folder)) == [member.metrics["mean_ms"]] * 2


def test_what_cannot_be_done_is_one_message(study):
    with pytest.raises(
        StudyError, match="cascade:1: the study has no cascades; `dynnas cascade STUDY` makes"
    ):
        study.load("cascade:1")
    front = study.front
    study.folder.front.write_text(replace(front, members=front.members[:1]).to_json())
    with pytest.raises(StudyError, match="the front has one network, and a cascade needs two"):
        cascade_study(Study(study.folder))
    study.folder.front.unlink()
    with pytest.raises(StudyError, match="there is no finished front yet"):
        cascade_study(Study(study.folder))


def test_the_document_comes_back_whole(cascaded, tmp_path: Path):
    _, found = cascaded
    path = tmp_path / "cascades.json"
    assert read_cascades(path) == Cascades()
    path.write_text(found.to_json())
    assert read_cascades(path) == found
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(
        StudyError, match=r"cascades\.json: damaged, or not by dynnas .* run dynnas cascade again"
    ):
        read_cascades(path)
    path.write_text(text.replace('"dynnas_cascades": 2', '"dynnas_cascades": 0'))
    with pytest.raises(StudyError, match=r"cascades\.json: found format 0, this dynnas reads 2"):
        read_cascades(path)
    path.write_text(text.replace('"thresholds"', '"limits"'))
    with pytest.raises(
        StudyError, match=r"cascades\.json: damaged, or not by dynnas \(KeyError\('thresholds'\)\)"
    ):
        read_cascades(path)
