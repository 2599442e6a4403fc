"""Passes over a study's networks: judged as they ship, written down, not done twice."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.graphs import session_of
from support.small_study import small_space

from dynnas.compression import PASSES
from dynnas.errors import StudyError, TargetError, TrainingError
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.cost import cost
from dynnas.progress import Progress
from dynnas.report.tables.trained import compressed_table, compressed_text
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.study.records.compressed import read_compressed
from dynnas.study.study import Study
from dynnas.workflows.compress import compress_members
from dynnas.workflows.run import run_study
from dynnas.workflows.train import recipe_of, train_members


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    space = small_space(folder, train={"epochs": 3}, search={"trials": 4, "controls": False})
    return run_study(space, folder=folder / "study")


@pytest.fixture
def study(searched, tmp_path):
    return Study(replace(searched.folder, path=shutil.copytree(searched.folder.path, tmp_path / "study")))


def compress(study, method, epochs=2, progress=None, **options):
    recipe = recipe_of(replace(study.settings.train, epochs=epochs), PASSES[method].start, teacher="none")
    member = study.front.pick("most-accurate")
    (found,) = compress_members(study, [member], method, recipe, options=options, progress=progress)
    return found


@pytest.mark.sampled(2)
@pytest.mark.parametrize("method", ["prune", "cluster", "lottery"])
def test_a_pass_makes_a_network_that_joins_the_study(study, method):
    options = {"amount": 0.5} if method == "prune" else {}
    found = compress(study, method, **options)
    assert study.compressed == (found,)
    network = study.trained_network(study.weights_of(found.key, found.name))
    assert accuracy(network, study.dataset, "search").top1 == found.after.scores["accuracy"]
    assert accuracy(network, study.dataset, "test").top1 == found.after.scores["test_accuracy"]
    assert cost(network.config).params == found.after.params
    for figures in (found.before, found.after):
        assert (study.folder.path / figures.file).stat().st_size == figures.bytes
        assert figures.interval_ms[0] <= figures.latency_ms <= figures.interval_ms[1]
    assert found.after.bytes < found.before.bytes
    assert study.folder.compressed in study.folder.owned()
    assert compress(study, method, **options) == found
    assert found.name in compressed_table([found], "small").rows[0]
    assert "times smaller" in compressed_text(found)


def test_an_int8_graph_is_judged_as_it_ships(study):
    found = compress(study, "int8", images=64)
    assert found.details == {"calibration_images": 64}
    assert (found.settings, found.file, found.after.params) == (None, None, None)
    session = session_of(str(study.folder.path / found.after.file))
    network, search = study.network(found.key), study.dataset.search
    prepared = prepare_images(network, study.dataset, search.images).numpy()
    said = np.array([int(session.run(["logits"], {"image": image[None]})[0].argmax()) for image in prepared])
    assert found.after.scores["accuracy"] == (said == search.targets.numpy()).mean()
    assert found.before.scores["accuracy"] == accuracy(network, study.dataset, "search").top1
    with pytest.raises(StudyError, match="have the name"):
        study.weights_of(found.key, found.name)


def test_int8_after_tuning_for_it_is_judged_as_it_ships(study):
    plain, tuned = compress(study, "int8", images=64), compress(study, "qat", epochs=6, images=64)
    assert tuned.settings["train"]["epochs"] == 6
    assert (tuned.details, tuned.file) == ({"calibration_images": 64}, None)
    assert tuned.before.scores == plain.before.scores
    content = (study.folder.path / tuned.after.file).read_bytes()
    assert content != (study.folder.path / plain.after.file).read_bytes()
    assert tuned.after.bytes == pytest.approx(plain.after.bytes, rel=0.01)
    session, network = session_of(content), study.network(tuned.key)
    search = study.dataset.search
    prepared = prepare_images(network, study.dataset, search.images).numpy()
    said = np.array([int(session.run(["logits"], {"image": image[None]})[0].argmax()) for image in prepared])
    assert tuned.after.scores["accuracy"] == (said == search.targets.numpy()).mean()
    assert tuned.after.scores["accuracy"] >= plain.after.scores["accuracy"]


def test_weights_for_int8_are_of_members_in_int8(study):
    recipe = recipe_of(study.settings.train, "inherited", weights="int8")
    with pytest.raises(StudyError, match=r"ships in float32; tune it by dynnas compress --pass qat"):
        train_members(study, [study.front.pick("knee")], recipe)


def test_a_ticket_is_judged_beside_the_dense_network(study):
    found = compress(study, "lottery", epochs=3, amount=0.5, rewind=2)
    assert set(found.controls) == {"dense, trained alike", "early weights under the mask"}
    assert found.details["weights_left"] == pytest.approx(0.5, abs=0.02)
    network = study.trained_network(found)
    zeros = sum(int((value == 0).sum()) for value in network.parameters() if value.ndim > 1)
    weights = sum(value.numel() for value in network.parameters() if value.ndim > 1)
    assert zeros / weights == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_tickets_of_other_weights_have_the_same_mask(study):
    made = {
        start: compress(study, "lottery", epochs=3, amount=0.5, rewind=1, start=start)
        for start in ("rewound", "trained", "fresh")
    }
    weights = [
        torch.cat([value.flatten() for value in study.trained_network(each).parameters() if value.ndim > 1])
        for each in made.values()
    ]
    assert [each.details["start"] for each in made.values()] == list(made)
    assert all(torch.equal(each == 0, weights[0] == 0) for each in weights)
    left = weights[0] != 0
    likeness = torch.corrcoef(torch.stack([each[left] for each in weights]))
    assert likeness[0, 1] > 0.5 > 0.3 > abs(likeness[0, 2])  # new weights have nothing of the trained ones
    with pytest.raises(TrainingError, match="found start 'old'; allowed: rewound, signs, trained, fresh"):
        compress(study, "lottery", epochs=3, start="old")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("stopped", ["dense", "rewound ticket"])
def test_an_interrupted_pass_goes_on_to_the_same_weights(study, tmp_path, stopped):
    class Interrupt(Progress):
        def task(self, name, total, done=0):
            if name == stopped and done:
                raise KeyboardInterrupt
            return super().task(name, total, done)

    other = Study(replace(study.folder, path=shutil.copytree(study.folder.path, tmp_path / "other")))
    with pytest.raises(KeyboardInterrupt):
        compress(study, "lottery", progress=Interrupt())
    assert study.compressed == ()
    assert compress(study, "lottery").weights_digest == compress(other, "lottery").weights_digest


def test_a_pass_begins_with_the_best_weights(study):
    member = study.front.pick("most-accurate")
    (trained,) = train_members(study, [member], recipe_of(study.settings.train, "inherited"))
    document = json.loads(study.folder.trained.read_text())
    document["networks"][0]["scores"]["accuracy"] = 1.0
    study.folder.trained.write_text(json.dumps(document))
    found = compress(study, "int8", images=16)
    assert found.source == trained.name
    assert found.before.scores["accuracy"] == trained.score


def test_what_cannot_be_done_is_one_message(study):
    with pytest.raises(StudyError, match="found pass 'fp4', allowed are int8, qat, prune, cluster, lottery"):
        compress_members(study, study.front.members, "fp4", recipe_of(study.settings.train, "scratch"))
    with pytest.raises(StudyError, match="pass int8 has no option bits; it has images"):
        compress(study, "int8", bits=3)
    with pytest.raises(TrainingError, match=r"no channel is dropped at an amount of 0\.01"):
        compress(study, "prune", amount=0.01)
    with pytest.raises(TrainingError, match="rewinds to epoch 5 of 2"):
        compress(study, "lottery", rewind=5)
    record = json.loads(study.folder.record.read_text())
    record["settings"]["target"]["batch"] = 4
    other = Study(replace(study.folder))
    other.folder.record.write_text(json.dumps(record))
    other.folder.anchors.unlink()
    with pytest.raises(TargetError, match="one image a call"):
        compress(other, "int8")
    study.folder.compressed.write_text("{}")
    with pytest.raises(StudyError, match=r"compressed\.json: damaged, or not by dynnas"):
        read_compressed(study.folder.compressed)
