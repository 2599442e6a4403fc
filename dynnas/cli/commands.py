"""The commands: each calls one workflow and prints what it returns; heavy imports wait until it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dynnas.cli.options import (
    FLAGS,
    STUDIES,
    SWITCHABLE,
    Data,
    Device,
    Earlier,
    Epochs,
    Experts,
    ExportFormat,
    ExportPick,
    Fresh,
    Limits,
    MaybeSpaceFile,
    Name,
    Processes,
    Quiet,
    Ray,
    Sampler,
    Seed,
    SpaceFile,
    Starts,
    Storage,
    Studies,
    StudyName,
    Threads,
    Trials,
    Weights,
    Workers,
    Yes,
    command_of,
    override,
    study_folder,
    study_name,
)
from dynnas.errors import StudyError

if TYPE_CHECKING:
    from dynnas.study.study import Study


def search(
    file: MaybeSpaceFile = None,
    data: Data = None,
    trials: Trials = None,
    sampler: Sampler = None,
    starts: Starts = None,
    earlier: Earlier = None,
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
    given = locals()  # the arguments by name
    from dynnas.language.parser import load_space

    drafted = file is None
    file = file or _drafted(data, studies, name, limits, device, threads, quiet)
    space = load_space(file)
    flags = {flag: given[flag] for flag in FLAGS}
    space = replace(space, settings=override(space.settings, flags, limits or ()))
    folder = study_folder(studies, name or study_name(space.name, None if drafted else data))

    from dynnas.cli.fresh import confirm_fresh
    from dynnas.cli.progress import show_progress

    if space.table:  # without torch
        from dynnas.workflows.run_table import run_table_study as run
    else:
        from dynnas.workflows.run import run_study as run

    if fresh:
        confirm_fresh(folder, storage, yes)
    with show_progress(quiet) as progress:
        study = run(space, folder=folder, storage=storage, fresh=fresh, progress=progress)
    if not study.front:
        kept = ", ".join(f"{metric}={limit:g}" for metric, limit in study.goal.constraints.items())
        raise StudyError(f"no candidate kept the limits {kept}; loosen them, or give more --trials")
    _show_study(study)


def _drafted(
    data: str | None,
    studies: Path,
    name: str | None,
    limits: list[str] | None,
    device: str | None,
    threads: str | None,
    quiet: bool,
) -> Path:
    """Return the space file that is drafted for the data of a search, and kept beside its study."""
    from dynnas.cli.drafting import draft, drafted_name

    if data is None:
        raise StudyError(
            "search: give a space file, the name of one (dynnas spaces lists them), or --data for one that "
            "is drafted for your data"
        )
    path = study_folder(studies, name or drafted_name(data))
    path = path.with_name(f"{path.name}.yaml")
    if not path.exists():
        draft(path, data, None, limits, device, threads, quiet)
    print(f"space:   {path}")
    return path


def _show_study(study: Study) -> None:
    """Draw and print what a search has found."""
    from dynnas.cli.printing import print_table
    from dynnas.report.study import comparison_table, study_table, write_growth, write_picture
    from dynnas.report.verdict import verdict

    picture, growth = write_picture(study), write_growth(study)
    print_table(study_table(study))
    if study.settings.devices:
        from dynnas.report.tables.devices import devices_table

        print_table(devices_table(study))
    if study.controls.groups:
        print_table(comparison_table(study))
    if not study.space.table:
        from dynnas.report.prediction import prediction_table

        if predictions := prediction_table(study):
            print_table(predictions)
    print(f"{verdict(study)}\n")
    print(f"front:   {study.folder.front}\npicture: {picture}\ngrowth:  {growth}\ntrials:  {study.storage}")


def space(file: SpaceFile) -> None:
    """Show what a space file spans.

    Its layers and choices, the number of architectures, how large its networks are, and which design rules
    of fast networks the largest one breaks.
    """
    from dynnas.cli.printing import print_table
    from dynnas.language.parser import load_space
    from dynnas.nn.networks.backbone_networks import BackboneNetworks
    from dynnas.report.tables.rules import rules_table
    from dynnas.report.tables.space import costs_table, genes_table
    from dynnas.space.moves import largest

    space = load_space(file)
    print_table(genes_table(space))
    if space.network or isinstance(space.model, BackboneNetworks):
        print_table(costs_table(space))
    if space.network:
        rules = rules_table(space.network_config(largest(space)), "largest")
        if rules.rows:
            print_table(rules)


def schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="file to write")] = None,
) -> None:
    """Print the JSON Schema of space files.

    Editors complete and check space files by it.
    """
    from dynnas.language.schema import json_schema

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
    from dynnas.study.study import open_study

    opened = open_study(study, studies)
    if as_json:
        print(opened.front.to_json(), end="")
        return

    from dynnas.cli.printing import print_table
    from dynnas.report.study import study_table
    from dynnas.report.tables.cascades import cascades_table
    from dynnas.report.tables.shelf import shelf_table
    from dynnas.report.verdict import verdict

    print_table(study_table(opened))
    if cascades := opened.cascades:
        print_table(cascades_table(opened, cascades))
    if opened.shelf:
        print_table(shelf_table(opened))
    print(verdict(opened))


def report(
    study: StudyName,
    format: Annotated[
        Literal["html", "md"], typer.Option("--format", help="a page, or Markdown for terminal and README")
    ] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="file to write, instead of report.html in the study's folder or the terminal",
        ),
    ] = None,
    time_images: Annotated[
        bool, typer.Option("--latency", help="first time every member with exits or gates on single images")
    ] = False,
    studies: Studies = STUDIES,
) -> None:
    """Write what a study found as one page.

    It works offline and while the search runs. Shows the front and its controls, every network drawn, who
    leaves early, latencies, which choices matter, how far to trust it, and how to make it again.
    """
    from dynnas.files import atomic_write
    from dynnas.report.markdown import markdown
    from dynnas.report.page.page import html_page
    from dynnas.report.summary import summarize
    from dynnas.study.study import open_study

    opened = open_study(study, studies)
    if time_images:
        from dynnas.report.latency import time_front

        time_front(opened)
    summary, command = summarize(opened), command_of(opened)
    text = html_page(summary, command) if format == "html" else markdown(summary, command)
    if format == "html" or out:
        path = out or opened.folder.report
        atomic_write(path, text)
        print(f"report: {path}")
    else:
        print(text, end="")


def export(
    study: StudyName,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder to write")],
    pick: ExportPick = None,
    weights: Weights = "best",
    format: ExportFormat = "onnx",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an earlier export in that folder")
    ] = False,
    studies: Studies = STUDIES,
) -> None:
    """Write one network of the front as a model, or several as one that switches between them.

    It is loaded again and compared with torch on real images before the folder appears. A switchable model
    has the supernet's weights.
    """
    if format == SWITCHABLE:
        _export_switchable(study, studies, pick or ["front"], out, overwrite)
        return
    from dynnas.candidates.candidate import int8_images
    from dynnas.cli.printing import print_table
    from dynnas.export.bundle import export_model
    from dynnas.export.card import facts_of, facts_of_cascade
    from dynnas.export.formats.format import get_format
    from dynnas.report.study import artifacts_table
    from dynnas.report.tables.cascades import title_of_cascade
    from dynnas.report.verdict import alike_text
    from dynnas.study.records.cascades import PICK
    from dynnas.study.study import open_study

    get_format(format)  # an unknown one is refused before anything is computed
    opened = open_study(study, studies)
    which = _only(pick or ["knee"])
    if which.startswith(PICK):
        cascade = opened.cascades.pick(which)
        chain = opened.cascade_network(cascade)
        facts = facts_of_cascade(opened, cascade)
        manifest = export_model(chain, opened.dataset, out, format, overwrite=overwrite, facts=facts)
        title = f"{title_of_cascade(cascade)}, of {opened.name}, written to {out}"
        print_table(artifacts_table(manifest, title))
        return
    member = opened.front.pick(which)
    trained = opened.weights_of(member.key, weights)
    network = opened.trained_network(trained) if trained else opened.network(member.key)
    quantized = opened.candidate(member.key).quantized
    manifest = export_model(
        network,
        opened.dataset,
        out,
        format,
        architecture=member.architecture,
        overwrite=overwrite,
        facts=facts_of(opened, member, trained),
        int8_images=int8_images(network, opened.dataset, opened.settings.train) if quantized else None,
    )
    source = f"weights of training {trained.name}" if trained else "weights of the supernet"
    print_table(artifacts_table(manifest, f"{member.key} of {opened.name}, {source}, written to {out}"))
    if alike := alike_text(opened.front, member):
        print(f"note:    {alike}")


def _only(pick: list[str]) -> str:
    if len(pick) > 1:
        raise StudyError(
            f"export: {len(pick)} networks; one file holds several with --format {SWITCHABLE} alone"
        )
    return pick[0]


def _export_switchable(study: str, studies: Path, pick: list[str], out: Path, overwrite: bool) -> None:
    from dynnas.cli.printing import print_table
    from dynnas.export.switchable.bundle import export_switchable
    from dynnas.report.study import artifacts_table
    from dynnas.study.study import open_study

    opened = open_study(study, studies)
    metric = opened.dataset.task.metrics[0]
    sign = -1 if metric.direction == "maximize" else 1
    members = sorted(opened.front.picks(pick), key=lambda member: sign * member.metrics[metric.name])
    if quantized := [member.key for member in members if opened.candidate(member.key).quantized]:
        raise StudyError(
            f"export: {', '.join(quantized)} are in int8, and a switchable model holds float32; pick others"
        )
    networks = {member.key: opened.network(member.key) for member in members}
    facts = {"networks of the study": opened.name, "weights from": "the supernet, calibrated"}
    manifest = export_switchable(networks, opened.dataset, out, overwrite=overwrite, facts=facts)
    print_table(artifacts_table(manifest, f"{len(networks)} networks of {opened.name}, written to {out}"))
    sizes = manifest["sizes"]
    print(
        f"sizes:   model.onnx {sizes['model.onnx'] / 1e6:.3g} MB; the largest network alone "
        f"{sizes['largest_alone'] / 1e6:.3g} MB, all of them {sizes['all_alone'] / 1e6:.3g} MB"
    )


def dashboard(
    study: StudyName,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="port to serve at; 0 for any free one")
    ] = 8080,
    studies: Studies = STUDIES,
) -> None:
    """Serve the Optuna dashboard of a study.

    On this machine only, also while the search runs; Ctrl-C ends it.
    """
    from dynnas.cli.dashboard import serve
    from dynnas.study.study import open_study

    serve(open_study(study, studies), port)
