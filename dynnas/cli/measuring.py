"""The commands around latency: each calls one room and prints what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynnas.cli.options import STUDIES, Quiet, Studies, StudyName


def calibrate(
    what: Annotated[
        str, typer.Argument(metavar="SPACE|STUDY", help="a space file, or a study's name or folder")
    ],
    samples: Annotated[int, typer.Option("--samples", min=1, help="networks to fit to")] = 50,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="networks to try it on")] = 20,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="for timing what is fitted to")] = 60.0,
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Fit a latency predictor to a space, on this device.

    Times layers alone and some whole networks, and tries it on networks it has not seen. A search that finds
    one does not measure what it shows to be hopeless.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.prediction import calibration_table, draw_prediction
    from dynnas.search.calibrating import calibrate_space, calibrate_study
    from dynnas.search.study import open_study
    from dynnas.space import load_space

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
        bool, typer.Option("--all", help="all candidates and controls too, on a new scale, as after a move")
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
    from dynnas.search.remeasuring import measure_all, measure_front
    from dynnas.search.study import open_study

    opened = open_study(study, studies)
    with show_progress(quiet) as progress:
        measured = (measure_all if everything else measure_front)(opened, progress)
    picture = write_picture(measured)
    print_table(study_table(measured))
    if measured.controls.groups:
        print_table(comparison_table(measured))
    print(f"front:   {measured.folder.front}\npicture: {picture}")
