"""Whether latencies can be trusted: repeatability, the predictor, what ships, and exits.

    python tests/bench/latency.py repeatability [--networks 20] [--seconds 0.4] [--quiet-machine]
    python tests/bench/latency.py predictor [SPACE ...] [--samples 50] [--held-out 100] [--seconds 0.5]
    python tests/bench/latency.py ships [--study STUDY] [--repeats 3]
    python tests/bench/latency.py exits [...]          (see latency_exits.py)

Each prints what it finds, and with `--out FILE` also writes it as JSON.

*repeatability*: networks of the quick start are measured in two fresh processes while another process loads
one core part of the time; by the meter, by the plain median of runs one after the other, and by torch's
`blocked_autorange`, each for the same time and relative to the reference networks by the same method.

*predictor*: `dynnas calibrate` with many networks held out. In a space with exits, these are of a supernet
that is trained here on digits: what a search would predict against what it would measure, on real images.

*ships*: the front of a study (of the quick start, made here, if none is given) against its exported ONNX
files, timed by a script with numpy and onnxruntime alone.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import latency_exits
import numpy as np
from scipy import stats

from dynnas.candidates.candidate import Extractor
from dynnas.data.load import load_data
from dynnas.language.parser import load_space
from dynnas.latency.anchors import anchor_networks, build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.fitting import calibrate, measure_twice
from dynnas.latency.predictor.predictor import Agreement
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.networks.network import Network
from dynnas.runtimes.onnx.graph import to_packed_onnx
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.search.evaluators.supernet import SupernetEvaluator
from dynnas.space.moves import sample
from dynnas.space.space import Space
from dynnas.study.study import open_study
from dynnas.supernet.staged import staged_supernet
from dynnas.training.start import train_supernet
from dynnas.workflows.run import run_study

SPACES = Path(__file__).parents[2] / "spaces"
METHODS = ("meter", "sequential median", "blocked_autorange")

LOAD = """
import random, time
while True:
    end = time.perf_counter() + random.uniform(0.2, 1.0)
    while time.perf_counter() < end:
        pass
    time.sleep(random.uniform(0.2, 1.0))
"""

SHIPPED = """
import json, sys, time
import numpy as np, onnxruntime as ort
files, repeats = json.loads(sys.argv[1]), int(sys.argv[2])
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
sessions = [ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file, _ in files]
images = [np.load(images) for _, images in files]
medians, lows = [], []
for session, batch in zip(sessions, images):
    runs = max(repeats, 400 * repeats // len(batch))
    times = np.zeros((runs, len(batch)))
    for run in range(-max(1, runs // 8), runs):
        for place in range(len(batch)):
            image = batch[place : place + 1]
            start = time.perf_counter()
            session.run(["logits"], {"image": image})
            times[run, place] = time.perf_counter() - start
    medians.append(float(np.median(times, 0).mean() * 1e3))
    lows.append(float(np.quantile(times, 0.1, 0).mean() * 1e3))
print(json.dumps({"median": medians, "low": lows}))
"""


# Repeatability


def repeatability(args: argparse.Namespace) -> dict[str, Any]:
    """Two passes in fresh processes, by every method."""
    with _load(not args.quiet_machine):
        passes = [_one_pass_elsewhere(args) for _ in "12"]
    found = {}
    for method in METHODS:
        first, second = (np.array(one[method]) for one in passes)
        found[method] = {
            "spearman": float(stats.spearmanr(first, second).statistic),
            "median_difference": float(np.median(np.abs(second / first - 1))),
            "worst_difference": float(np.abs(second / first - 1).max()),
        }
        line = found[method]
        print(
            f"{method:18} Spearman {line['spearman']:.3f}, difference: median "
            f"{line['median_difference']:.1%}, worst {line['worst_difference']:.1%}"
        )
    intervals = [np.array(one["intervals"]) for one in passes]
    overlap = (intervals[0][:, 0] <= intervals[1][:, 1]) & (intervals[1][:, 0] <= intervals[0][:, 1])
    print(f"the meter's 95% intervals of both passes overlap for {overlap.mean():.0%} of the networks")
    return {
        "networks": args.networks,
        "loaded": not args.quiet_machine,
        **found,
        "overlap": float(overlap.mean()),
    }


def one_pass(args: argparse.Namespace) -> dict[str, Any]:
    """All networks by every method, each relative to the anchors by the same method."""
    from torch.utils.benchmark import Timer

    space = load_space(SPACES / "mobile.yaml")
    target = replace(space.settings.target, seconds=args.seconds)
    anchors = build_anchors(space, target, 1, 10)
    workloads = [_workload(space, index, target) for index in range(args.networks)]
    meter = LatencyMeter(target, anchors)

    def sequential(workload: Workload) -> float:
        times, end = [], time.perf_counter() + args.seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            workload.runner(workload.images[0])
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def autorange(workload: Workload) -> float:
        timer = Timer("run(image)", globals={"run": workload.runner, "image": workload.images[0]})
        return timer.blocked_autorange(min_run_time=args.seconds).median

    def relative(way: Any) -> list[float]:
        reference = statistics.geometric_mean(way(anchor) for anchor in anchors)
        return [way(workload) / reference for workload in workloads]

    measured = [meter.measure(workload) for workload in workloads]
    scale = meter.reference.anchor_ms
    return {
        "meter": [latency.ratio for latency in measured],
        "intervals": [[end / scale for end in latency.interval_ms] for latency in measured],
        "sequential median": relative(sequential),
        "blocked_autorange": relative(autorange),
    }


def _workload(space: Space, index: int, target: Any) -> Workload:
    config = space.network_config(sample(space, random.Random(f"repeatability {index}")), 1, 10)
    image = np.zeros((1, 1, config.resolution, config.resolution), dtype=np.float32)
    return Workload(build_runner(Network(config).eval(), target), [image])


def _one_pass_elsewhere(args: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, __file__, "one-pass", "--networks", args.networks, "--seconds", args.seconds]
    ran = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


@contextmanager
def _load(wanted: bool) -> Iterator[None]:
    """Another process that is busy half of the time."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", LOAD])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# The predictor


def predictor(args: argparse.Namespace) -> dict[str, Any]:
    """Calibrate every space, and try the predictor on networks held out."""
    found = {}
    for name in args.spaces:
        space = load_space(name if Path(name).exists() else SPACES / f"{name}.yaml")
        started = time.perf_counter()
        predicted, measured, again = _held_out(space, args)
        agreement, noise = Agreement.of(predicted, np.sqrt(measured * again)), Agreement.of(again, measured)
        print(
            f"{space.name}: {len(measured)} networks held out, {time.perf_counter() - started:.0f} s in all"
        )
        for what, line in (("predicted and measured", agreement), ("measured twice (noise)", noise)):
            print(
                f"  {what:24} Kendall {line.kendall_tau:.3f}, Spearman {line.spearman:.4f}, within 5% "
                f"{line.within_5:.0%}, within 10% {line.within_10:.0%}, median {line.median_error:.1%}",
                flush=True,
            )
        found[space.name] = {"predictor": agreement.to_dict(), "noise": noise.to_dict()}
    return found


def _held_out(space: Space, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted, measured, and measured again, in ms."""
    assert space.network is not None
    target = replace(space.settings.target, seconds=args.seconds)
    with_exits = bool(space.network.exits)
    channels, classes = space.network.channels or 1, space.network.classes or 10
    meter = LatencyMeter(target, build_anchors(space, target, channels, classes))
    found = calibrate(
        space, meter, channels, classes,
        samples=args.samples, held_out=3 if with_exits else args.held_out, seconds=args.fit_seconds,
    )  # fmt: skip
    if not with_exits:
        return np.array(found.predicted_ms), np.array(found.measured_ms), np.array(found.again_ms)
    dataset = load_data(space.settings.data)
    train = replace(space.settings.train, epochs=args.epochs)
    supernet = staged_supernet(space, dataset.channels, dataset.task.outputs)
    with tempfile.TemporaryDirectory() as folder:
        train_supernet(supernet, dataset, train, Path(folder))
    evaluator = SupernetEvaluator(Extractor(supernet, dataset, train, target), meter, found.predictor)
    rng = random.Random("held out")
    predicted, workloads = [], []
    for architecture in dict.fromkeys(sample(space, rng) for _ in range(args.held_out)):
        known: dict[str, float] = {}
        for stage in evaluator.stages(architecture):
            known |= stage
            if "predicted_ms" in known:
                break
        predicted.append(known["predicted_ms"])
        candidate = evaluator.extractor.candidate(architecture)
        assert candidate.calibrated
        workloads.append(candidate.workload)
    measured, again = measure_twice(meter, workloads)
    return np.array(predicted), measured, again


# What ships


def ships(args: argparse.Namespace) -> dict[str, Any]:
    """A front's latencies, and those of its files, timed by a script of their own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        study = open_study(args.study) if args.study else _quick_study(place)
        dataset, target = study.dataset, study.settings.target
        files = []
        for number, member in enumerate(study.front):
            network = study.network(member.key)
            count = target.images if network.config.exits else 1
            images = prepare_images(network, dataset, dataset.search.images[:count]).numpy()
            model, pixels = place / f"{number}.onnx", place / f"{number}.npy"
            model.write_bytes(to_packed_onnx(network).SerializeToString())
            np.save(pixels, images)
            files.append((str(model), str(pixels)))
        for number, anchor in enumerate(
            islice(anchor_networks(study.space, dataset.channels, dataset.task.outputs), 2)
        ):
            model, pixels = place / f"anchor{number}.onnx", place / f"anchor{number}.npy"
            model.write_bytes(to_packed_onnx(anchor).SerializeToString())
            np.save(
                pixels,
                build_anchors(study.space, target, dataset.channels, dataset.task.outputs)[number].images[0],
            )
            files.append((str(model), str(pixels)))
        anchor_ms = json.loads(study.folder.anchors.read_text())["anchor_ms"]
        words = [sys.executable, "-I", "-c", SHIPPED, json.dumps(files), "3"]
        runs = [
            json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            for _ in range(args.repeats)
        ]
    in_study = np.array([member.metrics["mean_ms"] for member in study.front])
    found: dict[str, Any] = {"members": len(in_study)}
    for statistic in ("low", "median"):
        shipped = np.median([run[statistic] for run in runs], axis=0)
        members, anchors = shipped[: len(in_study)], shipped[len(in_study) :]
        # How much slower the machine is now than when the study set its scale, by the anchors' own files.
        slower = float(np.exp(np.log(anchors).mean()) / anchor_ms)
        raw, difference = in_study / members - 1, in_study * slower / members - 1
        found[statistic] = {
            "machine_slower": slower,
            "raw_median_difference": float(np.median(np.abs(raw))),
            "median_difference": float(np.median(np.abs(difference))),
        }
        print(
            f"study against files ({'10th percentile' if statistic == 'low' else 'median'} of a loop, "
            f"{args.repeats} processes), {len(in_study)} members: the anchors take {slower:.2f} times "
            f"as long as in the study; median difference {np.median(np.abs(difference)):.1%} "
            f"(without regard to the anchors {np.median(np.abs(raw)):.1%})"
        )
    return found


def _quick_study(folder: Path) -> Any:
    space = load_space(SPACES / "mobile.yaml")
    settings = replace(
        space.settings,
        train=replace(space.settings.train, epochs=10),
        search=replace(space.settings.search, trials=60, controls=False),
    )
    return run_study(replace(space, settings=settings), folder=folder / "mobile")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the checks."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["exits"]:
        return latency_exits.main(words[1:])
    args = _arguments(words)
    if args.check == "one-pass":
        print(json.dumps(one_pass(args)))
        return 0
    found = {"repeatability": repeatability, "predictor": predictor, "ships": ships}[args.check](args)
    if args.out:
        environment = environment_fingerprint(load_space(SPACES / "mobile.yaml").settings.target)
        args.out.write_text(json.dumps({"environment": environment, args.check: found}, indent=2) + "\n")
    return 0


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    checks = parser.add_subparsers(dest="check", required=True)
    for name in ("repeatability", "one-pass"):
        check = checks.add_parser(name)
        check.add_argument("--networks", type=int, default=20)
        check.add_argument("--seconds", type=float, default=0.4, help="for each network and method")
        check.add_argument("--quiet-machine", action="store_true", help="without a load on a core")
    check = checks.add_parser("predictor")
    check.add_argument("spaces", nargs="*", default=["cifar10", "exits"])
    check.add_argument("--samples", type=int, default=50)
    check.add_argument("--held-out", type=int, default=100)
    check.add_argument("--seconds", type=float, default=0.5, help="for each network held out")
    check.add_argument("--fit-seconds", type=float, default=60.0)
    check.add_argument("--epochs", type=int, default=5, help="of the supernet of a space with exits")
    check = checks.add_parser("ships")
    check.add_argument("--study", help="a name under studies, or a folder")
    check.add_argument("--repeats", type=int, default=3, help="processes that time the files")
    for check in checks.choices.values():
        check.add_argument("--out", type=Path, help="write what was found as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
