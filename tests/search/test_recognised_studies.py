"""A study in a database is recognised by all that its numbers depend on; trials of others count too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import create_trial
from support.tables import Table, grid_space, write_table

import dynnas
from dynnas.errors import StudyError
from dynnas.language.parser import load_space
from dynnas.progress import Progress
from dynnas.search.storage.studies import differences, gene_differences
from dynnas.space.architecture import Architecture
from dynnas.workflows.run_table import run_table_study


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


class Known(Table):
    """A table that says what its numbers depend on."""

    def __init__(self, provenance: str) -> None:
        super().__init__()
        self.provenance = provenance


def test_another_evaluator_is_refused(url: str) -> None:
    dynnas.search(grid_space(), Known("first"), trials=3, storage=url)
    dynnas.search(grid_space(), Known("first"), trials=4, storage=url)
    with pytest.raises(StudyError, match=r"study 'grid'.*:\n  evaluator is second, was first\nuse another"):
        dynnas.search(grid_space(), Known("second"), trials=5, storage=url)
    with pytest.raises(StudyError, match=r"\n  evaluator is not given, was first\n"):
        dynnas.search(grid_space(), Table(), trials=5, storage=url)


def test_another_folder_with_another_table_is_refused(url: str, tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    first.mkdir()
    second.mkdir()
    file = write_table(first)
    file.write_text(file.read_text().replace("trials: 1000", "trials: 5"))
    space = load_space(file)
    run_table_study(space, folder=first / "study", storage=f"{url}")
    write_table(second)
    table = second / "table.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    other = load_space(second / "grid.yaml")
    with pytest.raises(StudyError, match=r"made with something else:\n  data is \w{16}, was \w{16}\nuse"):
        run_table_study(other, folder=second / "study", storage=url)


def test_what_differs_is_said() -> None:
    here = {"data": "a", "train.epochs": 3, "train.seed": 0}
    there = {"data": "a", "train.epochs": 12, "target.device": "cpu"}
    assert differences(here, there) == [
        "train.epochs is 3, was 12",
        "train.seed is 0, was not given",
        "target.device is not given, was cpu",
    ]
    assert differences(here, dict(here)) == []
    genes = {f"x{number}": [1, 2] for number in range(7)}
    assert gene_differences(genes, {**genes, "x3": [1, 3]}) == ["gene x3 is [1, 2], was [1, 3]"]
    assert gene_differences(genes, {})[-1] == "and 2 more genes"


def by_hand(values: Mapping[str, int], told: list[float], most: int = 3) -> optuna.trial.FrozenTrial:
    distributions = {name: IntDistribution(0, most) for name in values}
    return create_trial(params=dict(values), distributions=dict(distributions), values=told)


class Heard(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def of_others(url: str) -> optuna.Study:
    return optuna.create_study(storage=url, study_name="grid", directions=["maximize", "minimize"])


@pytest.mark.parametrize("sampler", ["guided", "random", "tpe", "nsga2"])
def test_trials_of_others_count_if_they_are_architectures(sampler: str, url: str) -> None:
    study, heard = of_others(url), Heard()
    best = {"x0": 1, "x1": 2, "x2": 3, "x3": 0}
    study.add_trial(by_hand(best, [2.0, 0.5]))
    study.add_trial(by_hand({"x0": 1, "elsewhere": 2}, [3.0, 0.1]))
    front = dynnas.search(
        grid_space(), Table(), sampler=sampler, trials=12, population=4, storage=url, progress=heard
    )
    assert [dict(member.architecture) for member in front] == [best]
    assert front[0].metrics == {"accuracy": 2.0, "latency_ms": 0.5}
    assert len(optuna.load_study(study_name="grid", storage=url).trials) == 13  # 11 beside the first
    assert heard.texts == [
        "search: 1 trial of the storage is about no architecture of the space; it is left out"
    ]


def test_trials_of_others_with_other_values_have_one_message(url: str) -> None:
    study = of_others(url)
    study.add_trial(
        create_trial(params={"x0": 0.5}, distributions={"x0": FloatDistribution(0, 1)}, values=[1.0, 1.0])
    )
    with pytest.raises(StudyError, match=r"trial 0 was not made by dynnas, and its parameter 'x0' has the"):
        dynnas.search(grid_space(), Table(), trials=3, storage=url)


def test_study_of_others_with_other_directions_has_one_message(url: str) -> None:
    optuna.create_study(storage=url, study_name="grid", directions=["minimize"])
    with pytest.raises(
        StudyError, match="was not made by dynnas, and has the directions minimize; here they"
    ):
        dynnas.search(grid_space(), Table(), trials=3, storage=url)


def test_architecture_by_hand_is_not_evaluated_again(url: str) -> None:
    study = of_others(url)
    values = {"x0": 0, "x1": 0}
    study.add_trial(by_hand(values, [1.0, 1.0], most=1))
    evaluated: list[Architecture] = []

    class Noted(Table):
        def stages(self, architecture: Architecture):
            evaluated.append(architecture)
            yield {"accuracy": 0.5, "latency_ms": 2.0}

    dynnas.search(grid_space(2, 2), Noted(), trials=9, storage=url)
    assert len(evaluated) == 3
    assert values not in [dict(architecture) for architecture in evaluated]
