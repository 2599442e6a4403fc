"""A finished study of small networks with everything that a report can show, and its page."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from support.made_once import made_once
from support.small_study import small_space

from dynnas.cli.options import command_of
from dynnas.pareto.noise import high, low, tested
from dynnas.report.page.page import html_page
from dynnas.report.summary import StudySummary, summarize
from dynnas.settings.metrics import METRICS
from dynnas.study.folder import StudyFolder
from dynnas.study.records.audit import Audit, AuditedNetwork, Correlation, Neighbours
from dynnas.study.study import Study
from dynnas.workflows.run import run_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Searched by the worker that comes first, and read by the others."""
    return Study(StudyFolder(made_once(tmp_path_factory, "reported", search) / "small"))


def search(folder: Path) -> None:
    """Search a space, and add what its report can show beside its front."""
    space = small_space(folder, search={"trials": 20}, data={"search_images": 128})
    study = run_study(space, folder=folder / "small")
    # What is on the front depends on the clock; on this one somebody leaves early.
    early = next(candidate for candidate in study.candidates if "exit_share.stage1" in candidate.metrics)
    if all("exit_share.stage1" not in member.metrics for member in study.front):
        accuracy = early.metrics["accuracy"]
        known = {
            tested("accuracy"): accuracy,
            low("accuracy"): accuracy - 0.05,
            high("accuracy"): accuracy + 0.05,
        }
        member = replace(early, metrics=early.metrics | known)
        front = replace(study.front, members=(*study.front, member))
        study.folder.front.write_text(front.to_json())
    audited = tuple(
        AuditedNetwork(member.key, {}, 1, at < 2, 0.5 + 0.01 * at, 0.6 + 0.01 * at, (0.6 + 0.01 * at,))
        for at, member in enumerate(study.candidates[:5])
    )
    whole = Correlation(1.0, 0.9, 1.0)
    audit = Audit(METRICS["accuracy"], audited, 3, 1, whole, whole, Neighbours(1, 1, 0.04, None))
    study.folder.audit.write_text(audit.to_json())


@pytest.fixture(scope="session")
def summary(study: Study) -> StudySummary:
    return summarize(study)


@pytest.fixture(scope="session")
def command(study: Study) -> str:
    return command_of(study)


@pytest.fixture(scope="session")
def report(study: Study, summary: StudySummary, command: str) -> Path:
    study.folder.report.write_text(html_page(summary, command), encoding="utf-8")
    return study.folder.report


@pytest.fixture
def axes(tmp_path: Path) -> Iterator[list[Axes]]:
    """The axes of every figure that is saved during a test."""
    saved: list[Axes] = []
    with patch.object(Figure, "savefig", lambda figure, path: saved.extend(figure.axes)):
        yield saved
