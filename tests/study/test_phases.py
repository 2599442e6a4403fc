"""The phases of a study, as they are announced before it begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from support.small_study import small_space

from dynnas.data.dataset import Dataset
from dynnas.study.controls import uniform_widths
from dynnas.study.phases import phases_of_study
from dynnas.study.static_part import static_part


def dataset(steps: int) -> Dataset:
    """A data set that tells its numbers of images and steps alone."""
    some, few = (SimpleNamespace(images=range(count)) for count in (300, 200))
    fake: Any = SimpleNamespace(steps=lambda batch: steps, search=some, test=few)
    return cast(Dataset, fake)


def test_all_tasks_are_announced_with_their_steps(tmp_path: Path) -> None:
    space = small_space(tmp_path)
    static = static_part(space)
    assert static is not None
    phases = {phase.name: phase for phase in phases_of_study(space, dataset(steps=8))}
    assert {name: phase.steps for name, phase in list(phases.items())[:5]} == {
        "training": 4 * 8,
        "search": 10,
        "random control": 5,
        "static-only control": 10,
        "uniform-width control": len(uniform_widths(static)),
    }
    assert list(phases)[5:] == ["finishing the front", "testing the controls"]
    train = space.settings.train
    assert phases["training"].images == 6 * train.batch
    assert phases["search"].images == phases["random control"].images == 300 + train.calibration_images
    assert phases["testing the controls"].images == 200 + train.calibration_images
    alike = {phase.alike for name, phase in phases.items() if name == "search" or name.endswith("control")}
    assert alike == {"evaluation"}


def test_without_controls_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    space = small_space(tmp_path, search={"controls": False})
    names = [phase.name for phase in phases_of_study(space, dataset(steps=1))]
    assert names == ["training", "search", "finishing the front"]
