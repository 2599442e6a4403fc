"""The flag `--fresh`: nothing is deleted before it is listed and confirmed."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from dynnas.errors import StudyError
from dynnas.study.folder import StudyFolder


def confirm_fresh(folder: Path, storage: str | None, yes: bool) -> None:
    """Say what `--fresh` deletes, and ask unless `yes`.

    Args:
        folder: of the study.
        storage: a database beside the folder, if the study is to be kept there.
        yes: it was agreed to already.

    Raises:
        StudyError: the answer is no, or there is no terminal to ask on.
    """
    doomed = [path.name for path in StudyFolder(folder).owned()]
    if storage:
        doomed.append("its trials in the --storage database")
    if not doomed:
        return
    named = f"--fresh deletes from {folder}: {', '.join(doomed)}"
    if yes:
        print(named, file=sys.stderr)
    elif not sys.stdin.isatty():
        raise StudyError(f"{named}; there is no terminal to ask on, so say --yes if that is meant")
    elif not typer.confirm(f"{named}\nDelete them?", err=True):
        raise StudyError("nothing was deleted; the study continues without --fresh")
