"""`--fresh` names what it deletes, and asks where somebody can answer."""

import io
from pathlib import Path

import pytest

from dynnas.cli.fresh import confirm_fresh
from dynnas.errors import StudyError


class Keyboard(io.StringIO):
    """Standard input with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study's folder that holds something of somebody else's too."""
    for name in ("front.json", "study.db", "notes.md"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_new_study_needs_no_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    confirm_fresh(tmp_path / "new", None, yes=False)
    assert capsys.readouterr().err == ""


def test_yes_names_what_is_deleted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    confirm_fresh(folder, "postgresql://host/studies", yes=True)
    named = "front.json, study.db, its trials in the --storage database"
    assert capsys.readouterr().err == f"--fresh deletes from {folder}: {named}\n"


def test_without_a_terminal_it_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(StudyError, match=r"deletes from .*: front\.json, study\.db; .* say --yes"):
        confirm_fresh(folder, None, yes=False)


@pytest.mark.parametrize("answer", ["n", ""])
def test_the_answer_may_be_no(answer: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(f"{answer}\n"))
    with pytest.raises(StudyError, match="nothing was deleted"):
        confirm_fresh(folder, None, yes=False)


def test_the_answer_may_be_yes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard("y\n"))
    confirm_fresh(folder, None, yes=False)
