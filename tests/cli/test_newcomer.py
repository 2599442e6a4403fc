"""The way of a newcomer, away from the clone: install, look, search, own pictures, report, export, run."""

from pathlib import Path

import pytest
from bench.newcomer import walk


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_step_of_a_newcomer_works_and_leaves_what_it_should(tmp_path: Path) -> None:
    titles = [title for title, _, _ in walk(tmp_path, short=True).rows]
    assert titles[:3] == ["wheel", "install", "find it"]
    assert titles[-4:] == ["search own pictures under a limit", "report as text", "export", "run.py"]
