"""A study that takes seconds: tiny networks on the digits, hardly trained; one is made for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dynnas.language.parser import load_space
from dynnas.language.study_space import StudySpace
from dynnas.study.study import Study, open_study
from dynnas.workflows.run import run_study
from support.made_once import made_once

SPACE = """
name: small
input: {resolutions: 8}
stem: {width: [4, 8]}
stages:
  - {block: mbconv, depth: [1, 2], width: [8, 16], stride: 2, kernel: [3, 5], expand: 2,
     op: [static, condconv], experts: 2}
  - {block: conv, depth: 1, width: 8}
head: {width: [8, 16]}
exits: {positions: [stage1], count: [0, 1], thresholds: [0.3, 0.6], width: 8}
data: {source: digits, train_images: 512}
train: {epochs: 4, batch: 64, lr: 0.4, calibration_images: 128, precision: float32, layout: channels_first}
search: {trials: 10, population: 4}
target: {seconds: 0.02, images: 8}
"""


def small_space(folder: Path, **changes: Mapping[str, object]) -> StudySpace:
    """The space above, read from a file in `folder`, with changed settings, as `search={"trials": 5}`."""
    path = folder / "small.yaml"
    path.write_text(SPACE)
    space = load_space(path)
    sections = {name: replace(getattr(space.settings, name), **values) for name, values in changes.items()}
    return replace(space, settings=replace(space.settings, **sections))


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The finished study of that space, one for all workers; write to copies alone."""

    def make(folder: Path) -> None:
        run_study(small_space(folder), folder=folder / "small")

    return open_study("small", made_once(tmp_path_factory, "finished", make))


def copied(study: Study, folder: Path) -> Study:
    """A copy of a finished study in `folder`, to write to."""
    return Study(replace(study.folder, path=shutil.copytree(study.folder.path, folder / "small")))
