"""Members of a front trained alone: they join the study, and what is damaged or unknown is one message."""

import json
from dataclasses import replace

import pytest
import torch
from support.small_study import copied

from dynnas.errors import StudyError
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.layers.digest import weights_digest
from dynnas.study.records.trained import read_trained
from dynnas.workflows.train import INHERITED_LR, recipe_of, teachers_for, train_members


@pytest.fixture
def study(small_study, tmp_path):
    return copied(small_study, tmp_path)


def recipe(study, start="inherited", epochs=2, **changes):
    return recipe_of(replace(study.settings.train, epochs=epochs), start, **changes)


def test_a_trained_network_joins_the_study(study):
    member = study.front.pick("most-accurate")
    (found,) = train_members(study, [member], recipe(study))
    assert study.trained == (found,)
    network = study.trained_network(found)
    assert weights_digest(network) == found.weights_digest
    assert network.config == study.network(member.key).config
    assert accuracy(network, study.dataset, "search").top1 == found.score
    assert accuracy(network, study.dataset, "test").top1 == found.test_score
    assert found.inherited == member.metrics["accuracy"]
    assert len(found.losses) == 2
    assert study.folder.trained in study.folder.owned()
    assert study.folder.trained_weights in study.folder.owned()


def test_inherited_and_fresh_weights_are_different_starts(study):
    member = study.front.pick("fastest")
    inherited = train_members(study, [member], recipe(study, epochs=1))
    fresh = train_members(study, [member], recipe(study, "scratch", epochs=1, teacher="none"))
    assert [each.start for each in study.trained] == ["inherited", "scratch"]
    assert inherited[0].losses != fresh[0].losses
    assert inherited[0].score > fresh[0].score
    assert recipe(study).train.lr == INHERITED_LR * recipe(study, "scratch").train.lr
    names = [each.name for each in study.trained]
    assistants = teachers_for(study, ",".join(names))
    assert [weights_digest(each) for each in assistants] == [each.weights_digest for each in study.trained]
    with pytest.raises(StudyError, match=rf"teacher: found 'small'; allowed: largest, none, .* \({names[0]}"):
        train_members(study, [member], recipe(study, teacher="small"))


def test_trainings_teach_by_the_mean_of_their_weights(study):
    member, other = study.front.pick("fastest"), study.front.pick("most-accurate")
    for seed in (1, 2):
        train_members(
            study, [member], recipe_of(replace(study.settings.train, epochs=1, seed=seed), "scratch")
        )
    train_members(study, [other], recipe(study, epochs=1))
    first, second, third = study.trained
    (teacher,) = teachers_for(study, f"{first.name}+{second.name}")
    states = [study.trained_network(each).state_dict() for each in (first, second)]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in teacher.state_dict().items():
        mean = (states[0][name] + states[1][name]) / 2
        if name.endswith(statistics):
            assert not torch.equal(value, mean) or name.endswith("tracked")  # calibrated for the mean
        else:
            torch.testing.assert_close(value, mean)
    assert len(teachers_for(study, f"{first.name}+{second.name},{third.name}")) == 2
    with pytest.raises(StudyError, match="are trainings of different networks, whose weights have no mean"):
        teachers_for(study, f"{first.name}+{third.name}")


def test_the_same_recipe_is_not_trained_twice(study):
    members = study.front.picks(["front"])
    first = train_members(study, members, recipe(study, epochs=1))
    assert [each.key for each in first] == [member.key for member in study.front]
    written = study.folder.trained.read_bytes()
    assert train_members(study, members, recipe(study, epochs=1)) == first
    assert study.folder.trained.read_bytes() == written


def test_best_weights_are_best_on_search_images(study):
    member = study.front.pick("knee")
    assert study.weights_of(member.key) is None
    (found,) = train_members(study, [member], recipe(study, epochs=1))
    assert study.weights_of(member.key, "inherited") is None
    assert study.weights_of(member.key, found.name) == found
    better = json.loads(study.folder.trained.read_text())
    for accuracy_now, expected in ((found.inherited + 0.01, True), (0.0, False)):
        better["networks"][0]["scores"]["accuracy"] = accuracy_now
        study.folder.trained.write_text(json.dumps(better))
        assert bool(study.weights_of(member.key)) == expected
    with pytest.raises(StudyError, match=r"no trainings of .* have the name 'other'; allowed are best"):
        study.weights_of(member.key, "other")


def test_a_damaged_list_is_one_message_and_loses_nothing(study):
    member = study.front.pick("knee")
    (found,) = train_members(study, [member], recipe(study, epochs=1))
    study.folder.trained.write_text('{"dynnas_trained": 2, "networks": [{"name": 1}]}')
    with pytest.raises(StudyError, match=r"trained\.json: damaged, or not by dynnas"):
        read_trained(study.folder.trained)
    study.folder.trained.write_text('{"dynnas_trained": 9}')
    with pytest.raises(StudyError, match="found format 9"):
        train_members(study, [member], recipe(study, epochs=1))
    study.folder.trained.unlink()
    assert train_members(study, [member], recipe(study, epochs=1)) == (found,)


def test_members_are_picked_by_limits(study):
    front = study.front
    slowest = max(front, key=lambda member: member.metrics["latency_ms"])
    limit = slowest.metrics["latency_ms"]
    assert front.pick(f"latency_ms<={limit}").key == front.pick("most-accurate").key
    assert front.pick("accuracy>=0.0").key == front.pick("fastest").key
    assert front.picks(["front", "knee"]) == front.members
    with pytest.raises(StudyError, match=r"no member has latency_ms<=0\.0000001; theirs are"):
        front.pick("latency_ms<=0.0000001")
    with pytest.raises(StudyError, match="no member has speed<=3; they do not have it"):
        front.pick("speed<=3")
