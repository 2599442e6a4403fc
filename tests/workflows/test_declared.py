"""Kind 6: what a file declares is held against the data."""

from pathlib import Path

import numpy as np
import pytest

import dynnas
from dynnas.data.given import dataset_of
from dynnas.errors import StudyError
from dynnas.language.parser import parse_space
from dynnas.progress import Progress
from dynnas.workflows.start import tell_contradictions

SPACE = """
name: declared
input: {{{input}resolutions: [8]}}
stem: {{width: [4]}}
stages: [{{block: conv, depth: [1], width: [4, 8]}}, {{block: conv, depth: [1], width: [4]}}]
head: {{width: [8]}}
"""
IMAGES, LABELS = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4
DATA = ((IMAGES, LABELS), (IMAGES, LABELS))


class Told(Progress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_declarations_that_contradict_the_data_are_said() -> None:
    told, data = Told(), dataset_of(DATA)
    tell_contradictions(parse_space(SPACE.format(input="classes: 7, channels: 1, ")), data, told)
    assert told.messages == [
        "warning: input.classes of the space declared is 7, but the data data have 4, which is taken; leave "
        "it out of the file to let the data say"
    ]
    tell_contradictions(parse_space(SPACE.format(input="classes: 4, channels: 3, ")), data, told)
    assert told.messages[1].startswith(
        "warning: input.channels of the space declared is 3, but the data data"
    )
    tell_contradictions(parse_space(SPACE.format(input="")), data, told)
    assert len(told.messages) == 2


def test_a_share_in_percent_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"accuracy is 95, but it is a share from 0 to 1.*say 0\.95"):
        dynnas.search(parse_space(SPACE.format(input="")), data=DATA, folder=tmp_path, until={"accuracy": 95})


EXITS = "exits: {positions: [stage1], count: [0, 1], thresholds: [0.8]}\n"


def test_networks_that_cannot_do_the_task_are_refused_before_the_training(tmp_path: Path) -> None:
    plain = parse_space(SPACE.format(input=""))
    maps = np.zeros((40, 8, 8), np.int64)
    maps[:, 4:] = 1
    data = ((IMAGES, maps), (IMAGES, maps))
    with pytest.raises(StudyError, match="and the task segmentation asks for pixels"):
        dynnas.search(plain, data=data, task=dynnas.tasks.Segmentation(), folder=tmp_path)
    data = ((IMAGES, LABELS / 2), (IMAGES, LABELS / 2))
    space = parse_space(SPACE.format(input="") + EXITS)
    with pytest.raises(StudyError, match=r"leave its networks early .* the task regression has no classes"):
        dynnas.search(space, data=data, task=dynnas.tasks.Regression(), folder=tmp_path)
