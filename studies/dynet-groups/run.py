"""Which dynamic kernels pay, on a mobile network of fixed width? Trains, times and compares; see README.md.

    python studies/dynet-groups/run.py               # train, measure, report
    python studies/dynet-groups/run.py measure       # time the trained networks again, then report

Every variant is a space of one architecture, so it is trained, extracted and timed as any other network of
dynnas. What is finished is kept under `local/` and never done twice: interrupted, also by kill -9, the same
command goes on. Several processes may share the work if each is given other `--seeds`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
from results import Result, compare, draw, tables
from shared import run_steps, run_study, study_parser

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.files import atomic_write
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import DataSettings, TargetSettings
from dynnas.space.moves import largest
from dynnas.space.space import Space
from dynnas.supernet.staged import staged_supernet
from dynnas.training.start import train_supernet

HERE = Path(__file__).parent

SPACE = """
input: {{channels: {channels}, classes: {classes}, resolutions: {resolution}}}
stem: {{width: {stem}, kernel: 3, stride: 2, activation: relu}}
stages:
  - {{block: dwsep, depth: 1, width: {first}, stride: 1, kernel: 3, activation: relu, {layer}}}
  - {{block: dwsep, depth: 2, width: {second}, stride: 2, kernel: 3, activation: relu, {layer}}}
  - {{block: dwsep, depth: 2, width: {third}, stride: 1, kernel: 3, activation: relu, {layer}}}
train: {{epochs: 1, batch: 128, lr: 0.4, warmup_epochs: 0.25, precision: float32, layout: channels_first}}
"""
WIDTHS = {"stem": 8, "first": 16, "second": 32, "third": 64}


@dataclass(frozen=True)
class Variant:
    """A network: what its blocks say of their kernels, and the factor on all widths."""

    name: str
    layer: str = "op: static"
    width: float = 1.0

    def space(self, dataset: Dataset) -> Space:
        """The space of this one network; channels are multiples of 8, as in MobileNet's own ladder."""
        widths = {name: max(8, 8 * round(self.width * width / 8)) for name, width in WIDTHS.items()}
        images = {
            "channels": dataset.channels,
            "classes": dataset.task.outputs,
            "resolution": dataset.size[0],
        }
        return parse_space(SPACE.format(layer=self.layer, **widths, **images))


LADDER = tuple(Variant(f"static x{width:g}", width=width) for width in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.25))
STATIC = LADDER[2]
DYNAMIC = (
    Variant("SE alone", "op: static, attention: se"),
    *(Variant(f"DyNet g={g}", f"op: dynet, group: {g}") for g in (1, 2, 4, 6)),
    Variant("CondConv K=4", "op: condconv, experts: 4"),
    Variant("DY-CNN K=4", "op: dyconv, experts: 4"),
    Variant("WeightNet M=2 G=2", "op: weightnet, group: 1, splits: 2"),
)
VARIANTS = (STATIC, *DYNAMIC, *(variant for variant in LADDER if variant != STATIC))

RESULT, WEIGHTS, COSTS_FILE = "result.json", "weights.pt", "costs.json"


@dataclass(frozen=True)
class TimingPlan:
    """What to do, as the command line says; results go to `out`, what they are made of to its `local/`."""

    data: str
    epochs: int
    seeds: Sequence[int]
    variants: Sequence[Variant]
    seconds: float
    out: Path

    @property
    def local(self) -> Path:
        """Where finished work lies; that of another recipe lies elsewhere."""
        return self.out / "local" / f"{self.data}-{self.epochs}"

    def training(self, variant: Variant, seed: int) -> Path:
        """The folder of a training."""
        return self.local / f"{variant.name.replace(' ', '-')}-seed{seed}"


def train(plan: TimingPlan, progress: Progress) -> None:
    """Train every network and test it, all variants of a seed before the next seed."""
    dataset = read_data(plan)
    todo = [(variant, seed) for seed in plan.seeds for variant in plan.variants]
    for turn, (variant, seed) in enumerate(todo, start=1):
        folder = plan.training(variant, seed)
        if not (folder / RESULT).exists():
            progress.message(f"{turn} of {len(todo)}: {variant.name}, seed {seed}")
            train_one(variant, seed, plan.epochs, dataset, folder, progress)


def train_one(
    variant: Variant, seed: int, epochs: int, dataset: Dataset, folder: Path, progress: Progress
) -> None:
    """Train one network as the supernet of its space; leaves its weights, and last its accuracies."""
    space = variant.space(dataset)
    recipe = replace(space.settings.train, epochs=epochs, seed=seed)
    supernet = staged_supernet(space, dataset.channels, dataset.task.outputs, seed=seed)
    train_supernet(supernet, dataset, recipe, folder, progress=progress)
    network = calibrated_network(supernet, largest(space), dataset, recipe)
    torch.save(network.state_dict(), folder / WEIGHTS)
    scores = {split: accuracy(network, dataset, split).top1 for split in ("search", "test")}
    atomic_write(folder / RESULT, json.dumps(scores) + "\n")
    progress.message(f"{variant.name}, seed {seed}: test accuracy {scores['test']:.2%}")


def measure(plan: TimingPlan, progress: Progress) -> None:
    """Time one trained network of each variant, all in the same rounds; count MACs and parameters."""
    dataset, target = read_data(plan), TargetSettings(threads=1, seconds=plan.seconds)
    networks = [trained_network(variant, plan, dataset) for variant in plan.variants]
    image = prepare_images(networks[0], dataset, dataset.search.images[:1]).numpy()
    workloads = [Workload(build_runner(network, target), [image]) for network in networks]
    progress.message(f"timing {len(workloads)} networks together for {plan.seconds * len(workloads):.0f} s")
    anchors = [
        build_anchors(variant.space(dataset), target, dataset.channels, dataset.task.outputs)[0]
        for variant in (STATIC, DYNAMIC[-1])
    ]
    meter = LatencyMeter(target, anchors)
    latencies = meter.measure_jointly(workloads)
    sizes = [cost(network.config) for network in networks]
    costs = {
        variant.name: {"macs": size.macs, "params": size.params, "latency_ms": latency.latency_ms}
        for variant, size, latency in zip(plan.variants, sizes, latencies, strict=True)
    }
    document = {"environment": environment_fingerprint(target), "costs": costs}
    atomic_write(plan.local / COSTS_FILE, json.dumps(document, indent=2) + "\n")


def trained_network(variant: Variant, plan: TimingPlan, dataset: Dataset) -> Network:
    """The variant's network with the weights of the first seed."""
    space = variant.space(dataset)
    with torch.random.fork_rng(devices=[]):
        network = Network(space.network_config(largest(space), dataset.channels, dataset.task.outputs))
    network.load_state_dict(torch.load(plan.training(variant, plan.seeds[0]) / WEIGHTS))
    return network.eval()


def report(plan: TimingPlan) -> None:
    """Write results.json and accuracy.png, and print the tables in Markdown."""
    measured = json.loads((plan.local / COSTS_FILE).read_text())
    by_name = {}
    for variant in plan.variants:
        scores = [json.loads((plan.training(variant, seed) / RESULT).read_text()) for seed in plan.seeds]
        test = tuple(100 * score["test"] for score in scores)
        by_name[variant.name] = Result(variant.name, measured["costs"][variant.name], test)
    ladder = [by_name[variant.name] for variant in LADDER if variant.name in by_name]
    comparisons = {
        variant.name: compare(by_name[variant.name], by_name[STATIC.name], ladder)
        for variant in DYNAMIC
        if variant.name in by_name
    }
    document = {
        "recipe": {"data": plan.data, "epochs": plan.epochs, "seeds": list(plan.seeds)},
        "environment": measured["environment"],
        "networks": [asdict(result) for result in by_name.values()],
        "against_static_of_equal": {
            name: {base: asdict(found) for base, found in by_base.items()}
            for name, by_base in comparisons.items()
        },
    }
    atomic_write(plan.out / "results.json", json.dumps(document, indent=2) + "\n")
    draw(list(by_name.values()), ladder, plan.out / "accuracy.png")
    print(tables(list(by_name.values()), comparisons))


def read_data(plan: TimingPlan) -> Dataset:
    """The images, varied no further: these trainings are too short to profit."""
    return load_data(DataSettings(source=plan.data, augment="none"))


def main() -> None:
    """Read the command line and run the steps that it asks for."""
    parser = study_parser(__doc__, HERE, data="fashion-mnist", epochs=3, seeds=(0, 1, 2), seconds=4.0)
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these")
    args = parser.parse_args()
    known = {variant.name: variant for variant in VARIANTS}
    if unknown := set(args.variants or ()) - set(known):
        parser.error(f"--variants: found {', '.join(sorted(unknown))}; allowed: {', '.join(known)}")
    variants = tuple(v for v in VARIANTS if not args.variants or v.name in args.variants)
    plan = TimingPlan(args.data, args.epochs, args.seeds, variants, args.seconds, args.out)
    run_steps(args.step, partial(train, plan), partial(measure, plan), partial(report, plan))


if __name__ == "__main__":
    run_study(main)
