"""`--fresh`: nothing is deleted before it is named and agreed to."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from dynnas.errors import StudyError
from dynnas.search.folder import StudyFolder


def confirm_fresh(folder: Path, yes: bool) -> None:
    """Say what starting anew deletes from `folder`, and ask unless `yes`.

    Raises:
        StudyError: the answer is no, or there is no terminal to ask on.
    """
    doomed = StudyFolder(folder).owned()
    if not doomed:
        return
    named = f"--fresh deletes from {folder}: {', '.join(path.name for path in doomed)}"
    if yes:
        print(named, file=sys.stderr)
    elif not sys.stdin.isatty():
        raise StudyError(f"{named}; there is no terminal to ask on, so say --yes if that is meant")
    elif not typer.confirm(f"{named}\nDelete them?", err=True):
        raise StudyError(
            "nothing was deleted; without --fresh the study continues, with --name another begins"
        )
