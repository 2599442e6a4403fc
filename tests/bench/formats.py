"""One front through every runtime and format that is installed here, in one table.

    python tests/bench/formats.py STUDY [--pick front] [--images 256] [--rounds-seconds 0.4]

Runtimes: the artifact that a search times, each in the same rounds with all others. Formats: the files that
`dynnas export` writes, timed when they are loaded again. Parity is that with torch on search images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from dynnas.candidates.candidate import Candidate, int8_images
from dynnas.errors import DynnasError
from dynnas.export import FORMATS, export_model
from dynnas.latency.rounds import TimingPlan, Workload, time_rounds
from dynnas.metrics.accuracy import answers
from dynnas.metrics.artifact import run_artifact
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.runtimes.runtime import Runner, get_runtime, offered_runtimes
from dynnas.settings.settings import TargetSettings
from dynnas.study.study import Study, open_study

SLOW = ("torch_compile",)
"""Runtimes that take minutes a network; asked for by name."""


def artifacts_of(study: Study, candidate: Candidate, runtimes: list[str]) -> dict[str, Artifact | str]:
    """The compiled network of each runtime, or why there is none."""
    network, found = candidate.calibrated, dict[str, Artifact | str]()
    for name in runtimes:
        target = TargetSettings(runtime=name)
        try:
            found[name] = compile_network(network, target)
            if "int8" in get_runtime(name).quantizations and get_runtime(name).portable is None:
                images = int8_images(network, study.dataset, study.settings.train)
                found[f"{name}, int8"] = compile_network(network, target, int8_images=images)
        except DynnasError as error:
            found.setdefault(name, str(error))
    return found


def runtime_rows(study: Study, candidate: Candidate, args: argparse.Namespace) -> list[list[str]]:
    runtimes = [name for name in offered_runtimes("cpu") if name not in SLOW or name in args.runtimes]
    made = artifacts_of(study, candidate, runtimes)
    runners: dict[str, Runner] = {}
    for name, artifact in made.items():
        if isinstance(artifact, Artifact):
            try:
                runners[name] = load_artifact(artifact)
            except DynnasError as error:
                made[name] = str(error)
    search = study.dataset.search[: args.images]
    expected = answers(candidate.calibrated, study.dataset, search).outputs
    task, rows = study.dataset.task, []
    for name in list(runners):
        try:
            outputs = run_artifact(runners[name], candidate.calibrated, study.dataset, search.images).outputs
        except Exception as error:  # each runtime has its own
            made[name] = f"fails: {error}"
            del runners[name]
            continue
        same = task.agrees(outputs, expected).double().mean().item()
        rows.append((name, float(task.difference(outputs, expected).max()), same))
    images = list(candidate.workload.images)
    times = time_rounds(
        [Workload(runner, images) for runner in runners.values()], (), TimingPlan(args.seconds * len(runners))
    )
    table = []
    for (name, difference, same), ms in zip(rows, times, strict=True):
        artifact = made[name]
        assert isinstance(artifact, Artifact)
        size = sum(map(len, artifact.files.values()))
        branches = _kept(candidate, get_runtime(artifact.runtime).branches)
        table.append(
            [candidate.key, name, f"{difference:.1e}", f"{100 * same:.1f}", f"{np.median(ms):.4f}",
             f"{size / 1e3:.1f}", branches]
        )  # fmt: skip
    refused = [
        [candidate.key, name, why[:80], "", "", "", ""] for name, why in made.items() if isinstance(why, str)
    ]
    return table + refused


def _kept(candidate: Candidate, branches: bool) -> str:
    if not candidate.config.branches:
        return "none to keep"
    return "real" if branches else "by Python, or masked"


def format_rows(study: Study, candidate: Candidate, args: argparse.Namespace) -> list[list[str]]:
    rows = []
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder, "bundle")
            try:
                manifest = export_model(candidate.copy(), study.dataset, bundle, name, images=args.images)
            except Exception as error:  # libraries have their own
                rows.append([candidate.key, name, str(error)[:80], "", "", "", ""])
                continue
            for each in manifest["artifacts"]:
                branches = manifest["left_out_by_exits"] and each["batch"] == 1
                ms = f"{each['timing']['median_ms']:.4f}" if each["timing"] else "not run"
                size = sum(
                    file["bytes"]
                    for path, file in manifest["files"].items()
                    if path.split("/")[0] == each["file"]
                )
                rows.append(
                    [candidate.key, f"{name}: {each['file']}", f"{each['largest_difference']:.1e}",
                     f"{100 * each['agreement']:.1f}", ms, f"{size / 1e3:.1f}", _kept(candidate, branches)]
                )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--pick", action="append")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=0.4, help="of timing for each network and runtime")
    parser.add_argument("--runtimes", nargs="*", default=[], help=f"further ones: {', '.join(SLOW)}")
    args = parser.parse_args()
    study = open_study(args.study)
    print("| network | runtime or format | largest difference | same answer % | median ms | kB | branches |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for member in study.front.picks(args.pick or ["front"]):
        candidate = study.candidate(member.key)
        for row in (*runtime_rows(study, candidate, args), *format_rows(study, candidate, args)):
            print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
