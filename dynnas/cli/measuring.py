"""The commands around latency: each calls one workflow and prints what it returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from dynnas.cli.options import STUDIES, Pick, Quiet, Studies, StudyName, Weights
from dynnas.errors import SpaceError


def calibrate(
    what: Annotated[
        str, typer.Argument(metavar="SPACE|STUDY", help="a space file, or a study's name or folder")
    ],
    samples: Annotated[int, typer.Option("--samples", min=1, help="number of networks to fit to")] = 50,
    held_out: Annotated[
        int, typer.Option("--held-out", min=1, help="number of other networks to test it on")
    ] = 20,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="time for measuring the networks of the fit")
    ] = 60.0,
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Fit a latency predictor to a space, on this device.

    Times layers alone and some whole networks, and tries it on networks it has not seen. A search that finds
    one does not measure candidates that it shows to be clearly dominated.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.language.parser import load_space
    from dynnas.report.prediction import calibration_table, draw_prediction
    from dynnas.study.study import open_study
    from dynnas.workflows.calibrate import calibrate_space, calibrate_study

    is_space = Path(what).suffix in (".yaml", ".yml")
    how = {"samples": samples, "held_out": held_out}
    with show_progress(quiet) as progress:
        if is_space:
            found = calibrate_space(load_space(what), **how, seconds=seconds, progress=progress)
        else:
            found = calibrate_study(open_study(what, studies), **how, seconds=seconds, progress=progress)
    print_table(calibration_table(found))
    print(f"picture: {draw_prediction(found)}")


def measure(
    study: StudyName,
    everything: Annotated[
        bool,
        typer.Option("--all", help="measure candidates and controls too, on a new scale, as after a move"),
    ] = False,
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Measure a study's latencies again.

    Those of its front, all members together; with --all everything that was measured, for this machine,
    runtime and library versions. Interrupted, the same command goes on.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.study import comparison_table, study_table, write_picture
    from dynnas.study.study import open_study
    from dynnas.workflows.remeasure import measure_all, measure_front

    opened = open_study(study, studies)
    with show_progress(quiet) as progress:
        measured = (measure_all if everything else measure_front)(opened, progress)
    picture = write_picture(measured)
    print_table(study_table(measured))
    if measured.controls.groups:
        print_table(comparison_table(measured))
    print(f"front:   {measured.folder.front}\npicture: {picture}")


def latency(
    study: StudyName,
    pick: Pick = "knee",
    images: Annotated[
        int, typer.Option("--images", min=1, metavar="N", help="search images to time one by one")
    ] = 256,
    batch: Annotated[
        int, typer.Option("--batch", min=2, metavar="B", help="also time them in batches of this size")
    ] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
    studies: Studies = STUDIES,
) -> None:
    """Time a network of the front on real images.

    Its distribution over images where the work depends on them, by exit, and in batches. Also drawn, into the
    study's folder.
    """
    from dynnas.cli.printing import print_table
    from dynnas.report.latency import report_of
    from dynnas.study.study import open_study
    from dynnas.workflows.latency import latency_of

    opened = open_study(study, studies)
    key = opened.front.pick(pick).key
    found = latency_of(opened, key, images=images, batch=batch)
    report = report_of(opened, key, found)
    plot = report.write_plot()
    report.write_document()
    if as_json:
        print(json.dumps({"key": key, "plot": str(plot), **found.to_dict()}, indent=2))
        return
    for table in report.tables():
        print_table(table)
    print(f"plot: {plot}")


def budget(
    study: StudyName,
    pick: Pick = "knee",
    quotas: Annotated[
        list[float] | None,
        typer.Option(
            "--quota",
            metavar="Q",
            help="MSDNet's quota q: the share of images at exit k is proportional to q^k; repeatable; "
            "0.05 to 2 if not given",
        ),
    ] = None,
    weights: Weights = "best",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
    studies: Studies = STUDIES,
) -> None:
    """Report the accuracy of a network with exits for budgets of computation.

    MSDNet's protocol: for each quota, thresholds are fitted on the search split and applied to the test
    split. A second table has the accuracy of each exit alone. Both are written and drawn into the study's
    folder, with the times of the exits once `dynnas latency` has measured them.
    """
    from dynnas.cli.printing import print_table
    from dynnas.metrics.budgeted import QUOTAS
    from dynnas.report.budget import BudgetReport
    from dynnas.study.study import open_study
    from dynnas.workflows.budget import budget_of

    opened = open_study(study, studies)
    key = opened.front.pick(pick).key
    report = BudgetReport(opened, budget_of(opened, key, quotas or QUOTAS, weights))
    document, plot = report.write_document(), report.write_plot()
    if as_json:
        print(document.read_text(), end="")
        return
    for table in report.tables():
        print_table(table)
    print(f"written to: {document}\nplot: {plot}")


def tune(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="a space file; without one, usual sizes")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, metavar="N", help="threads of torch; as in training if not given"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure the fastest way to run mixed convolutions here.

    Remembered in a file of the user's cache folder, which training and scoring look at from then on; without
    it they follow a fixed rule. Interrupted, what was measured is kept.
    """
    from dynnas.language.parser import load_space

    space = load_space(file) if file else None
    if space and not space.network:
        what = "networks of a class say no" if space.model else "a space of plain choices has no"
        raise SpaceError(
            f"{file}: {what} convolutions to measure; dynnas tune without a file measures usual sizes"
        )

    import torch

    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.latency.tuning.problems import default_problems, problems_of
    from dynnas.latency.tuning.tuning import Tuned
    from dynnas.latency.tuning.tuning import tune as measure
    from dynnas.nn.dynamic_conv.tuned import TunedFile
    from dynnas.report.tables.tuning import tuning_table

    threads = threads or torch.get_num_threads()
    problems = problems_of(space, threads) if space else default_problems(threads)
    found: list[Tuned] = []
    try:
        with show_progress(quiet) as progress:
            found.extend(measure(problems, TunedFile.path(), progress))
    finally:
        print_table(tuning_table(found, TunedFile.path()))


def serve(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="port to listen at; 0 for any free one")
    ] = 7411,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="HOST", help="address to listen at; 0.0.0.0 for all of this machine's"
        ),
    ] = "127.0.0.1",
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="device to time on")] = "cpu",
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="file of the token; else $DYNNAS_TOKEN; made if missing"
        ),
    ] = None,
    message_mib: Annotated[
        int, typer.Option("--message-mib", min=1, help="size of the largest network, in MiB")
    ] = 256,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="PEM file for TLS: clients say tcp+tls://"),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="PEM file of its private key, if not in the same one"),
    ] = None,
) -> None:
    """Let other machines time their networks on this one.

    They name it as their target: {device: "tcp://host:port"}, and know its token. The same, for a device with
    only numpy and onnxruntime (or torch) installed: python -m dynnas.latency.remote.serve. Ctrl-C ends it.
    """
    from dynnas.latency.remote.serve import serve as serve_device

    serve_device(host, port, device, token_file, message_mib, certificate, key)
