"""Options of the task in a space file."""

import json

import pytest

from dynnas.data.load import load_data
from dynnas.errors import SpaceError, TaskError
from dynnas.language.parser import parse_space
from dynnas.settings.settings import DataSettings
from dynnas.tasks import Classification, Detection
from dynnas.tasks.named_by import task_named

FILE = (
    "input: {{resolutions: 8}}\nstem: {{width: 4}}\nstages: [{{width: 8}}]\ndata: {{task_options: {options}}}"
)


def test_they_are_arguments_of_its_class() -> None:
    text = FILE.format(
        options="{label_smoothing: 0.1, class_weights: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], top: 3}"
    )
    settings = parse_space(text).settings.data
    assert json.loads(json.dumps(settings.task_options)) == settings.task_options
    task = load_data(settings).task
    assert isinstance(task, Classification)
    assert (task.label_smoothing, task.class_weights, task.top) == (0.1, tuple(range(1, 11)), 3)


def test_detections_are_said_beside_the_task() -> None:
    task = task_named("detection", {"box_weight": 3.0, "overlap": 0.5, "most": 20})
    assert isinstance(task, Detection)
    assert (task.box_weight, task.detections.overlap, task.detections.most) == (3.0, 0.5, 20)
    assert task.detections.candidates == Detection().detections.candidates


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (
            "classification",
            {"smoothing": 0.1},
            "the task classification has no 'smoothing'.*allowed: classes, label",
        ),
        ("classification", {"label_smoothing": 2}, "label_smoothing is 2; it is at least 0"),
        ("classification", {"top": "many"}, "classification does not take them"),
        ("classification", {"top": {"a": 1}}, "classification does not take them"),
        ("detection", {"detections": 3}, "the task detection has no 'detections'"),
    ],
)
def test_what_a_task_does_not_take(task: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_data(DataSettings(task=task, task_options=options)) if task == "classification" else task_named(
            task, options
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("3", "data.task_options: found 3; allowed: a mapping"),
        ("{top: {a: {b: 1}}}", "data.task_options.top: found a mapping"),
    ],
)
def test_texts_that_are_no_options(options: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(FILE.format(options=options))
