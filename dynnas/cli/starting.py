"""The commands to begin with: the space files that come with dynnas, and a demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynnas.cli.options import STUDIES, Quiet, Studies
from dynnas.errors import StudyError, nearest

_DEMO = "demo"


def spaces(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="print this one")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="copy it there, to change it")
    ] = None,
) -> None:
    """List the space files that come with dynnas, or copy one.

    `dynnas search NAME` and `dynnas space NAME` take them by name, wherever you are.
    """
    from dynnas.language.shipped import shipped_spaces, title_of_space

    known = shipped_spaces()
    if name is None:
        if out is not None:
            raise StudyError("--out: say which space file to copy; dynnas spaces lists them")

        from dynnas.cli.printing import print_table
        from dynnas.report.tables.table import Column, Table

        rows = tuple((each, title_of_space(path)) for each, path in known.items())
        print_table(Table("space files", (Column("name"), Column("what it spans")), rows))
        return
    if name not in known:
        raise StudyError(
            f"spaces: no space file is called {name!r}{nearest(name, known)}; there are {', '.join(known)}"
        )
    text = known[name].read_text(encoding="utf-8")
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise StudyError(f"--out: {out} exists; give another name, or remove it")
    out.write_text(text, encoding="utf-8")
    print(f"space: {out}")


def demo(studies: Studies = STUDIES, quiet: Quiet = False) -> None:
    """Search the space `mobile` on data that come with dynnas, and write the report.

    This takes some minutes and leaves the study `demo`. The same command continues it after an interruption.
    """
    from dynnas.cli.commands import report, search

    search(file=Path("mobile"), studies=studies, name=_DEMO, quiet=quiet)
    report(study=_DEMO, studies=studies)
    where = "" if studies == STUDIES else f" --studies {studies}"
    print(f"next:    dynnas export {_DEMO} --pick knee --out knee{where}")
