"""The commands: each calls one room and prints what it returns; heavy imports wait until it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from dynnas.cli.options import (
    STUDIES,
    Data,
    Device,
    Epochs,
    Experts,
    Fresh,
    Limits,
    Name,
    Pick,
    Processes,
    Quiet,
    Ray,
    Sampler,
    Seed,
    SpaceFile,
    Storage,
    Studies,
    StudyName,
    Threads,
    Trials,
    Workers,
    Yes,
    override,
    study_folder,
)
from dynnas.errors import StudyError


def search(
    file: SpaceFile,
    data: Data = None,
    trials: Trials = None,
    sampler: Sampler = None,
    seed: Seed = None,
    epochs: Epochs = None,
    experts: Experts = None,
    device: Device = None,
    threads: Threads = None,
    workers: Workers = None,
    processes: Processes = None,
    ray: Ray = None,
    limits: Limits = None,
    studies: Studies = STUDIES,
    name: Name = None,
    storage: Storage = None,
    fresh: Fresh = False,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Find a space's front of accuracy and latency.

    Trains a supernet, searches it, and measures what it finds; a file with a table needs neither. Killed at
    any moment, the same command continues. Flags override the settings of the space file.
    """
    from dynnas.space import load_space

    space = load_space(file)
    flags = {
        "data": data,
        "trials": trials,
        "sampler": sampler,
        "seed": seed,
        "epochs": epochs,
        "experts": experts,
        "device": device,
        "threads": threads,
        "workers": workers,
        "processes": processes,
        "ray": ray,
    }
    space = replace(space, settings=override(space.settings, flags, limits or ()))
    folder = study_folder(studies, name or space.name)

    from dynnas.cli.fresh import confirm_fresh
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.study import comparison_table, study_table, write_growth, write_picture

    if space.table:  # without torch
        from dynnas.search.table_study import run_table_study as run
    else:
        from dynnas.search.pipeline import run_study as run

    if fresh:
        confirm_fresh(folder, storage, yes)
    with show_progress(quiet) as progress:
        study = run(space, folder=folder, storage=storage, fresh=fresh, progress=progress)
    if not study.front:
        given = ", ".join(f"{metric}={limit:g}" for metric, limit in study.goal.constraints.items())
        raise StudyError(f"no candidate kept the limits {given}; loosen them, or give more --trials")
    picture, growth = write_picture(study), write_growth(study)
    print_table(study_table(study))
    if study.controls.groups:
        print_table(comparison_table(study))
    if not space.table:
        from dynnas.report.prediction import prediction_table

        if predictions := prediction_table(study):
            print_table(predictions)
    print(f"front:   {study.folder.front}\npicture: {picture}\ngrowth:  {growth}\ntrials:  {study.storage}")


def space(file: SpaceFile) -> None:
    """Show what a space file spans.

    Its layers and choices, the number of architectures, and how large its networks are.
    """
    from dynnas.cli.printing import print_table
    from dynnas.report.space import costs_table, genes_table
    from dynnas.space import load_space

    space = load_space(file)
    print_table(genes_table(space))
    if space.network:
        print_table(costs_table(space))


def schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="write it there")] = None,
) -> None:
    """Print the JSON Schema of space files.

    Editors complete and check space files by it.
    """
    from dynnas.space import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def front(
    study: StudyName,
    studies: Studies = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Show the front of a study.

    While the search runs, the front of its trials so far.
    """
    from dynnas.search import open_study

    opened = open_study(study, studies)
    if as_json:
        print(opened.front.to_json(), end="")
        return

    from dynnas.cli.printing import print_table
    from dynnas.report.study import study_table

    print_table(study_table(opened))


def audit(
    study: StudyName,
    networks: Annotated[int, typer.Option("--networks", min=3, help="how many to train alone")] = 16,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="for each; the supernet's if not given")
    ] = None,
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Train some networks alone, and say how well the supernet ranks them.

    Interrupted, the same command goes on; trained networks are kept.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.study import audit_table
    from dynnas.search.audit import audit_study
    from dynnas.search.study import open_study

    opened = open_study(study, studies)
    with show_progress(quiet) as progress:
        result = audit_study(opened, networks=networks, epochs=epochs, progress=progress)
    print_table(audit_table(result, opened.name))


def export(
    study: StudyName,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder to make")],
    pick: Pick = "knee",
    format: Annotated[
        Literal["onnx", "pt2", "checkpoint"], typer.Option("--format", help="what to write")
    ] = "onnx",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an earlier export in that folder")
    ] = False,
    studies: Studies = STUDIES,
) -> None:
    """Write one network of the front as a model.

    It is loaded again and compared with torch on real images before the folder appears.
    """
    from dynnas.cli.printing import print_table
    from dynnas.export import export_model
    from dynnas.report.study import artifacts_table
    from dynnas.search import open_study

    opened = open_study(study, studies)
    member = opened.front.pick(pick)
    manifest = export_model(
        opened.network(member.key),
        opened.dataset,
        out,
        format,
        architecture=member.architecture,
        overwrite=overwrite,
    )
    print_table(artifacts_table(manifest, f"{member.key} of {opened.name}, written to {out}"))


def dashboard(
    study: StudyName,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free")] = 8080,
    studies: Studies = STUDIES,
) -> None:
    """Serve the Optuna dashboard of a study.

    On this machine only, also while the search runs; Ctrl-C ends it.
    """
    from dynnas.cli.dashboard import serve
    from dynnas.search import open_study

    serve(open_study(study, studies).storage, port)
