"""The command that times networks from elsewhere, beside a study or alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynnas.cli.options import STUDIES, Device, Quiet, Studies, Threads, image_shape, override
from dynnas.errors import StudyError
from dynnas.settings.settings import Settings, TargetSettings


def shelf(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[STUDY] NETWORK...",
            help="a study, if they are to stand beside its front; timm:NAME, PACKAGE.MODULE:FUNCTION, or a "
            "file .onnx, which is timed only",
        ),
    ],
    epochs: Annotated[
        int, typer.Option("--epochs", min=0, help="train each for so long by the recipe of the study; 0: no")
    ] = 0,
    image: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="CxHxW",
            help="without a study: shape of an image, if a network does not say it",
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", metavar="N", min=1, help="without a study: number of classes")
    ] = None,
    elastic: Annotated[
        bool, typer.Option("--elastic", help="without a study: say what `dynnas elastic` makes of each")
    ] = False,
    device: Device = None,
    threads: Threads = None,
    seed: Annotated[int, typer.Option("--seed", help="draws weights and the order of images")] = 0,
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Time networks from elsewhere, alone or on the clock of a study.

    Beside a study they are trained alike if asked, and stand in `dynnas front`, in the report and in its
    picture. One that the front does not beat may be a start for `dynnas elastic`.
    """
    study, networks = _told_apart(names)
    alone = {"--input": image, "--classes": classes, "--elastic": elastic, "--device": device}
    alone["--threads"] = threads
    if study is None:
        if epochs:
            raise StudyError("--epochs: a training needs the data and the recipe of a study; name it first")
        flags = {"device": device, "threads": threads}
        target = override(Settings(), flags, ()).target
        _alone(networks, target, image, classes, elastic, seed, quiet)
        return
    if wrong := [name for name, value in alone.items() if value]:
        raise StudyError(f"{wrong[0]}: the study {study} says it; leave it out, or leave out the study")
    _beside(study, networks, epochs, seed, studies, quiet)


def _told_apart(names: list[str]) -> tuple[str | None, list[str]]:
    """Return the study, if one is named first, and the networks."""
    if ":" in names[0] or Path(names[0]).suffix == ".onnx":
        return None, names
    if len(names) == 1:
        raise StudyError(
            f"shelf: {names[0]} is no network; needed is timm:NAME, package.module:function, or a file "
            ".onnx, behind a study or alone"
        )
    return names[0], names[1:]


def _alone(
    networks: list[str],
    target: TargetSettings,
    image: str | None,
    classes: int | None,
    elastic: bool,
    seed: int,
    quiet: bool,
) -> None:
    shape = image_shape(image) if image else None

    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.tables.shelf import timed_table
    from dynnas.workflows.shelf.alone import time_networks

    with show_progress(quiet) as progress:
        found = time_networks(
            networks, target, shape=shape, outputs=classes, starts=elastic, seed=seed, progress=progress
        )
    print_table(timed_table(found, target.device))


def _beside(study: str, networks: list[str], epochs: int, seed: int, studies: Path, quiet: bool) -> None:
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.study import write_picture
    from dynnas.report.tables.shelf import shelf_table
    from dynnas.study.study import open_study
    from dynnas.workflows.shelf.shelve import shelve

    opened = open_study(study, studies)
    with show_progress(quiet) as progress:
        shelve(opened, networks, epochs=epochs, seed=seed, progress=progress)
    print_table(shelf_table(opened))
    if opened.front:
        print(f"picture: {write_picture(opened)}")
