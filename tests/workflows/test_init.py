"""`dynnas init`: a space file for data and a limit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxes import voc

from dynnas.cli.app import main
from dynnas.data.dataset import Dataset
from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.nn.layers.macs import count_macs
from dynnas.settings.settings import DataSettings, TargetSettings
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space
from dynnas.workflows.drafting.draft import _network, draft_space, usual_rectangle

CLOCK = 2e4
"""Multiply-adds in a millisecond of the clock below."""


def by_macs(space: Space, dataset: Dataset, target: TargetSettings) -> tuple[float, float]:
    """Time networks by what they compute: a clock that is the same everywhere."""
    made = space.of_data(dataset.shape, dataset.task)
    least, most = (
        count_macs(network, torch.zeros(1, *network.config.shape))[1] / CLOCK
        for network in (_network(made, each(made), dataset) for each in (smallest, largest))
    )
    return least, most


@pytest.mark.parametrize("limit", [2.0, 20.0])
def test_the_limit_lies_inside_of_what_is_drafted(limit: float) -> None:
    text = draft_space(DataSettings(source="digits"), {"latency_ms": limit}, time_ends=by_macs)
    space = parse_space(text)
    settings = space.settings
    assert settings.search.constraints == {"latency_ms": limit}
    assert settings.search.objectives == ("accuracy", "latency_ms")
    assert (settings.data.source, settings.data.task) == ("digits", "classification")
    from dynnas.data.load import load_data

    least, most = by_macs(space, load_data(settings.data), settings.target)
    assert least < limit / 1.5
    assert limit < most < 3 * limit
    assert f"the limit is {limit:g} ms" in text
    assert "digits: 1,294 train, 144 search, 359 test images of 8 x 8 pixels, grey" in text


def test_a_limit_that_nothing_keeps() -> None:
    with pytest.raises(
        SpaceError, match=r"init: the smallest networks .* the limit is 0\.001 ms; give a smaller"
    ):
        draft_space(DataSettings(source="digits"), {"latency_ms": 0.001}, time_ends=by_macs)


def test_boxes_keep_the_shape_of_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    voc(tmp_path / "cells")
    with pytest.raises(SystemExit) as ended:
        main(["init", "--data", "cells", "--out", "cells.yaml", "--quiet"])
    assert ended.value.code == 0
    space = parse_space(Path("cells.yaml").read_text())
    assert space.gene("resolution").values[-1] == (30, 40)
    assert (space.model.answers, space.settings.data.size) == ("boxes", (30, 40))
    assert space.settings.data.source == str(tmp_path / "cells")
    assert space.settings.search.objectives == ("ap50", "latency_ms")
    made = space.of_data((3, 30, 40), parse_task())
    for each in (smallest, largest):
        assert made.build(each(made)).eval()(torch.zeros(1, 3, *each(made)["resolution"])).shape[2] == 6


def parse_task() -> object:
    from dynnas.tasks import Detection

    return Detection(2)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 30), (30, 40)), ((640, 480), (224, 304)), ((300, 280), None), ((100, 900), (896, 96))],
)
def test_the_usual_rectangle(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int] | None) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((*size[::-1], 3), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    assert usual_rectangle(tmp_path) == expected
    assert usual_rectangle(tmp_path / "0.png") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search"], "search: give a space file, the name of one"),
        (["init", "--data", "digits", "--out", "."], "--out: . exists"),
        (["init", "--data", "digits", "--max", "speed=5"], "--max: found speed=5"),
    ],
)
def test_what_the_commands_refuse(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
