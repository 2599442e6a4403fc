"""The commands to begin with: the space files that come with dynnas, and a demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynnas.cli.drafting import draft, drafted_name
from dynnas.cli.options import STUDIES, Device, Limits, Quiet, Studies, Threads
from dynnas.errors import StudyError, nearest

_DEMO = "demo"


def init(
    data: Annotated[
        str,
        typer.Option("--data", metavar="DATA", help="what data.source of a space file may be, as a folder"),
    ],
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="what targets mean, if they do not tell")
    ] = None,
    limits: Limits = None,
    device: Device = None,
    threads: Threads = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="file to write; named after the data if not given"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draft a space file for your data.

    It looks at the data, and with --max latency_ms=5 times networks on the device, so that what the file
    spans lies around that limit. Every choice is there to be changed.
    """
    path = out or Path(f"{drafted_name(data)}.yaml")
    if path.exists():
        raise StudyError(f"--out: {path} exists; give another name, or remove it")
    draft(path, data, task, limits, device, threads, quiet)
    print(f"space: {path}\nnext:  dynnas space {path}, then dynnas search {path}")


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

    search(file=Path("mobile"), workers="2", studies=studies, name=_DEMO, quiet=quiet)
    report(study=_DEMO, studies=studies)
    where = "" if studies == STUDIES else f" --studies {studies}"
    print(f"next:    dynnas export {_DEMO} --pick knee --out knee{where}")
