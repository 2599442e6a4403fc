"""Accuracy against expected multiply-adds by MSDNet's protocol, of three kinds of networks; see README.md.

    python studies/msd-cifar10/run.py --data cifar10_jpeg.npz              # train, time, report
    python studies/msd-cifar10/run.py --data cifar10_jpeg.npz measure      # time again, then report

Every network is trained alone by the same recipe. What is finished is kept under `local/` and never done
twice: interrupted, also by kill -9, the same command goes on from the last whole epoch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
from criteria import Criterion, compare_criteria, criteria_table
from results import BUDGETS, BUDGETS_MS, Result, draw, tables
from shared import run_steps, run_study, study_parser

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.files import atomic_write
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.layers import ExitPath
from dynnas.metrics.accuracy import predict_logits
from dynnas.metrics.budgeted import budget_curve, judge
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.cost import cost
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings, TargetSettings, TrainSettings
from dynnas.space.moves import largest
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network, train_alone

HERE = Path(__file__).parent

IMAGES = "input: {{channels: {channels}, classes: {classes}, resolutions: {resolution}}}\n"
STEM = "stem: {width: 24, stride: 2}\nstages:\n"
RESIDUAL = """
  - {block: basic, depth: 1, width: 24, stride: 1}
  - {block: basic, depth: 1, width: 48, stride: 2}
  - {block: basic, depth: 2, width: 96, stride: 2}
"""
# MSDNet: ever coarser scales are dropped; RANet's order: the coarsest scale first, then ever finer ones.
FINE_FIRST = """
  - {block: msd, depth: 3, width: 8}
  - {block: msd, depth: 2, width: 8, finest: 1, keep: 0.5}
  - {block: msd, depth: 2, width: 8, finest: 2, keep: 0.5}
"""
COARSE_FIRST = """
  - {block: msd, depth: 2, width: 10, finest: 2, links: both}
  - {block: msd, depth: 2, width: 10, finest: 1, links: both}
  - {block: msd, depth: 2, width: 10, finest: 0, links: both}
"""


def exits(*positions: str) -> str:
    """Exits at these places."""
    return f"exits: {{positions: [{', '.join(positions)}], count: {len(positions)}, width: 48}}\n"


NETWORKS = {
    "static": STEM + RESIDUAL,
    "exits": STEM + RESIDUAL + exits("stage1", "stage2", "stage3.0"),
    "msd": STEM + FINE_FIRST + exits("stage1.0", "stage1", "stage2"),
    "msd, coarse first": STEM + COARSE_FIRST + exits("stage1", "stage2", "stage3.0"),
}

JUDGING = "exits"
"""The network on whose exits criteria are compared."""

RESULT, LOGITS, TIMES = "result.json", "logits.pt", "times.json"


@dataclass(frozen=True)
class TimingPlan:
    """What to do, as the command line says; results go to `out`, what they are made of to its `local/`."""

    data: str
    epochs: int
    seeds: Sequence[int]
    networks: Sequence[str]
    train_images: int | None
    seconds: float
    out: Path

    @property
    def local(self) -> Path:
        """Where finished work lies; that of another recipe lies elsewhere."""
        images = f"-{self.train_images}" if self.train_images else ""
        return self.out / "local" / f"{Path(self.data).stem}-{self.epochs}{images}"

    def training(self, network: str, seed: int) -> Path:
        """The folder of a training."""
        return self.local / f"{network.replace(', ', '-').replace(' ', '-')}-seed{seed}"


def facts(dataset: Dataset) -> dict[str, int]:
    """What a space file says of its images."""
    return {"channels": dataset.channels, "classes": dataset.task.outputs, "resolution": dataset.size[0]}


def read_data(plan: TimingPlan) -> Dataset:
    """The images."""
    return load_data(DataSettings(source=plan.data, train_images=plan.train_images))


def config_of(name: str, dataset: Dataset) -> NetworkConfig:
    """The one network of a space, for these images."""
    space = parse_space(IMAGES.format(**facts(dataset)) + NETWORKS[name])
    return space.network_config(largest(space), dataset.channels, dataset.task.outputs)


def train(plan: TimingPlan, progress: Progress) -> None:
    """Train and score every network, all of a seed before the next seed."""
    dataset = read_data(plan)
    todo = [(name, seed) for seed in plan.seeds for name in plan.networks]
    for turn, (name, seed) in enumerate(todo, start=1):
        if not (plan.training(name, seed) / RESULT).exists():
            progress.message(f"{turn} of {len(todo)}: {name}, seed {seed}")
            train_one(name, seed, plan, dataset, progress)


def train_one(name: str, seed: int, plan: TimingPlan, dataset: Dataset, progress: Progress) -> None:
    """Train one network; leaves what every exit says of search and test images, and last its accuracies."""
    folder = plan.training(name, seed)
    settings = TrainSettings(
        epochs=plan.epochs, lr=0.2, warmup_epochs=0.5, seed=seed, precision="float32", layout="channels_last"
    )
    recipe = Recipe(settings, start="scratch", teacher="none", ema=0.99)
    network = fresh_network(config_of(name, dataset), seed)
    train_alone(network, dataset, recipe, folder, progress=progress, name=f"{name}, seed {seed}")
    logits = {
        split: predict_logits(network, dataset, getattr(dataset, split).images)
        for split in ("search", "test")
    }
    labels = {split: getattr(dataset, split).targets for split in ("search", "test")}
    torch.save({"logits": logits, "labels": labels}, folder / LOGITS)
    right = [float((found.argmax(1) == labels["test"]).float().mean()) for found in logits["test"]]
    atomic_write(folder / RESULT, json.dumps({"test_accuracy_by_exit": right}) + "\n")
    progress.message(f"{name}, seed {seed}: test accuracy {right[-1]:.2%}")


def measure(plan: TimingPlan, progress: Progress) -> None:
    """Time every way through every network, all in the same rounds."""
    dataset, target = read_data(plan), TargetSettings(threads=1, seconds=plan.seconds)
    configs = {name: config_of(name, dataset) for name in plan.networks}
    ways = [(name, exit) for name, config in configs.items() for exit in range(len(config.exits) + 1)]
    progress.message(f"timing {len(ways)} ways together for {plan.seconds * len(ways):.0f} s")
    workloads = [ExitPath.of(configs[name], exit).workload(target) for name, exit in ways]
    space = parse_space(IMAGES.format(**facts(dataset)) + NETWORKS["static"])
    meter = LatencyMeter(target, build_anchors(space, target, dataset.channels, dataset.task.outputs))
    latencies = meter.measure_jointly(workloads)
    times: dict[str, list[float]] = {name: [] for name in configs}
    for (name, _), latency in zip(ways, latencies, strict=True):
        times[name].append(latency.latency_ms)
    document = {"environment": environment_fingerprint(target), "exit_ms": times}
    atomic_write(plan.local / TIMES, json.dumps(document, indent=2) + "\n")


def report(plan: TimingPlan) -> None:
    """Write results.json and accuracy.png, and print the tables in Markdown."""
    dataset = read_data(plan)
    timed = plan.local / TIMES
    measured = json.loads(timed.read_text()) if timed.exists() else {"environment": None, "exit_ms": {}}
    results = [result_of(name, plan, dataset, measured["exit_ms"]) for name in plan.networks]
    criteria: tuple[Criterion, ...] = ()
    if JUDGING in plan.networks:
        said = [torch.load(plan.training(JUDGING, seed) / LOGITS) for seed in plan.seeds]
        macs = next(result.exit_macs for result in results if result.name == JUDGING)
        criteria = compare_criteria([(one["logits"], one["labels"]) for one in said], macs)
    document = {
        "recipe": {
            "data": Path(plan.data).name,
            "train_images": plan.train_images,
            "epochs": plan.epochs,
            "seeds": list(plan.seeds),
        },
        "environment": measured["environment"],
        "at_budgets": {
            result.name: {
                **{f"{macs / 1e6:g} MMACs": result.at(macs) for macs in BUDGETS},
                **{f"{ms:g} ms": result.at(ms, "ms") for ms in BUDGETS_MS},
            }
            for result in results
        },
        "networks": [asdict(result) for result in results],
        "criteria": [asdict(criterion) for criterion in criteria],
    }
    atomic_write(plan.out / "results.json", json.dumps(document, indent=1) + "\n")
    draw(results, plan.out / "accuracy.png")
    print(tables(results))
    if criteria:
        print(f"\n{criteria_table(criteria)}")


def result_of(name: str, plan: TimingPlan, dataset: Dataset, times: Mapping[str, Sequence[float]]) -> Result:
    """What the trainings of a network came to: thresholds of search images, figures of test images."""
    config = config_of(name, dataset)
    size = cost(config)
    curves, anytime = [], []
    for seed in plan.seeds:
        said = torch.load(plan.training(name, seed) / LOGITS)
        search, test = (
            judge(said["logits"][split], config.exits, said["labels"][split], dataset.task)
            for split in ("search", "test")
        )
        anytime.append(tuple(100 * share for share in test.accuracies))
        ms = times.get(name, ())
        curves.append(budget_curve(search, test, size.exit_macs, way_ms=ms) if config.exits else ())
    return Result(name, size.exit_macs, tuple(times.get(name, ())), tuple(anytime), tuple(curves))


def main() -> None:
    """Read the command line and run the steps that it asks for."""
    parser = study_parser(__doc__, HERE, data=None, epochs=4, seeds=(0, 1), seconds=2.0)
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--train-images", type=int, default=20000, help="use only this many")
    args = parser.parse_args()
    plan = TimingPlan(
        args.data, args.epochs, args.seeds, args.networks, args.train_images, args.seconds, args.out
    )
    run_steps(args.step, partial(train, plan), partial(measure, plan), partial(report, plan))


if __name__ == "__main__":
    run_study(main)
