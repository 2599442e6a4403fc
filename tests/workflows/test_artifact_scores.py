"""A finished front has the scores of the compiled networks, and none that is wrong."""

import numpy as np
import pytest
import torch
from support.small_study import copied

from dynnas.candidates.candidate import Candidate
from dynnas.metrics.accuracy import accuracy
from dynnas.metrics.artifact import artifact_runner, compare_answers, run_artifact
from dynnas.pareto.front import Front
from dynnas.pareto.noise import AGREEMENT, ARTIFACT_GAP
from dynnas.progress import Progress
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import TargetSettings
from dynnas.study.study import Study
from dynnas.workflows import finish
from dynnas.workflows.finish import Examination
from dynnas.workflows.remeasure import measure_front


@pytest.fixture(scope="module")
def candidate(small_study: Study) -> Candidate:
    return small_study.candidate(small_study.front[-1].key)


class Heard(Progress):
    """Keeps all messages."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


def test_members_say_how_far_the_compiled_network_is_from_torch(small_study: Study) -> None:
    for member in small_study.front:
        assert member.metrics[AGREEMENT] == 1
        assert member.metrics[ARTIFACT_GAP] == 0
    assert Front.load(small_study.folder.front) == small_study.front


def test_scores_are_those_of_the_artifact_run_one_by_one(candidate: Candidate) -> None:
    dataset = candidate.dataset
    images = prepare_images(candidate.calibrated, dataset, dataset.test.images).numpy()
    runner = artifact_runner(candidate)
    assert runner is not None
    said = np.array([runner(image[None])[0].argmax() for image in images])
    found = Examination().of(candidate, runner)
    assert found is not None
    assert found["test_accuracy"] == pytest.approx((said == dataset.test.targets.numpy()).mean())


@pytest.mark.parametrize("batch", [1, 2, 5, 300])
def test_calls_are_filled_and_every_image_is_answered(candidate: Candidate, batch: int) -> None:
    called: list[int] = []

    def runner(images: np.ndarray) -> np.ndarray:
        called.append(len(images))
        return images.reshape(len(images), -1)[:, :3]

    dataset, network = candidate.dataset, candidate.calibrated
    images = dataset.test.images[:7]
    found, exits = run_artifact(runner, network, dataset, images, batch)
    assert exits is None
    expected = prepare_images(network, dataset, images).flatten(1)[:, :3]
    assert torch.equal(found, expected)
    assert set(called) == {batch}


def test_scores_that_differ_are_the_artifacts(candidate: Candidate) -> None:
    """In less than float32 outputs differ: answers that are turned round count as what they are."""
    runner = artifact_runner(candidate)
    assert runner is not None
    candidate = _in(candidate, "bfloat16")
    found = Examination().of(candidate, lambda images: -runner(images))
    assert found is not None
    test = compare_answers(candidate, lambda images: -runner(images), "test")
    right = (test.outputs.argmax(1) == test.targets).double().mean().item()
    assert found["test_accuracy"] == pytest.approx(right)
    assert found[ARTIFACT_GAP] == pytest.approx(
        right - accuracy(candidate.calibrated, candidate.dataset, "test").top1
    )
    assert found[AGREEMENT] < 0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_answers_that_are_no_numbers_are_wrong_in_any_type(candidate: Candidate, dtype: str) -> None:
    runner = artifact_runner(candidate)
    assert runner is not None
    candidate = _in(candidate, dtype)
    assert Examination().of(candidate, lambda images: runner(images) * np.float32("nan")) is None


def test_a_runtime_that_is_not_here_leaves_the_scores_to_torch(candidate: Candidate) -> None:
    found = Examination().of(candidate, None)
    assert found is not None
    assert AGREEMENT not in found
    assert found["test_accuracy"] == accuracy(candidate.calibrated, candidate.dataset, "test").top1


@pytest.mark.slow
def test_a_wrong_artifact_is_taken_off_the_front(
    small_study: Study, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied(small_study, tmp_path)
    wrong = study.front[0].key

    def runner_of(candidate: Candidate):
        runner = artifact_runner(candidate)
        assert runner is not None
        return (lambda images: runner(images)[:, ::-1]) if candidate.key == wrong else runner

    monkeypatch.setattr(finish, "artifact_runner", runner_of)
    heard = Heard()
    after = measure_front(study, heard).front
    assert [member.key for member in after] == [member.key for member in study.front][1:]
    (said,) = [text for text in heard.said if wrong in text]
    assert "taken off the front" in said
    assert "runtime onnxruntime" in said


def _in(candidate: Candidate, dtype: str) -> Candidate:
    """The candidate as if it were compiled for a target of that type."""

    class Other(Candidate):
        target = TargetSettings(dtype=dtype)  # type: ignore[assignment]

    other = object.__new__(Other)
    other.__dict__.update(candidate.__dict__)
    return other
