"""The command line that studies share: a step, a recipe, a folder; interrupted, the same command goes on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dynnas.cli.progress import show_progress
from dynnas.progress import Progress

STEPS = ("all", "train", "measure", "report")


def study_parser(
    doc: str | None, out: Path, *, data: str | None, epochs: int, seeds: Sequence[int], seconds: float
) -> argparse.ArgumentParser:
    """A parser of what every study asks, with these defaults; `data` must be given if it is None."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=STEPS, default="all")
    parser.add_argument("--data", default=data, required=data is None, help="as in a space's `data: source`")
    parser.add_argument("--epochs", type=int, default=epochs, help="of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--seconds", type=float, default=seconds, help="of timing, for each network")
    parser.add_argument("--out", type=Path, default=out, help="folder of the results and of local/")
    return parser


def run_steps(
    step: str,
    train: Callable[[Progress], None],
    measure: Callable[[Progress], None],
    report: Callable[[], None],
) -> None:
    """Run what `step` asks for, on one thread: all is reported that was not only trained."""
    torch.set_num_threads(1)
    with show_progress() as progress:
        if step in ("all", "train"):
            train(progress)
        if step in ("all", "measure"):
            measure(progress)
        if step != "train":
            report()


def run_study(main: Callable[[], None]) -> None:
    """Run a study's `main`; ctrl-c is no error."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
