"""Which networks that decide per image pay, by the clock and in multiply-adds? See README.md.

    python studies/dynamic-inference/run.py                # train, measure, report
    python studies/dynamic-inference/run.py measure        # time the trained networks again, then report

A static network is trained, and every other one of its widths starts from its weights and is trained on for
as long as it is itself. What is finished is kept under `local/` and never done twice: interrupted, also by
kill -9, the same command goes on from the last whole epoch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
from controls import gate_uses, held_shares
from networks import ALL, FAMILIES, STATIC, STATICS, Static, config_of, family_config, inherit, static_space
from results import Point, compare, draw, tables
from shared import run_steps, run_study, study_parser

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.files import atomic_write
from dynnas.latency.anchors import build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.metrics.accuracy import accuracy, predict_logits
from dynnas.metrics.budgeted import budget_curve, judge
from dynnas.nn.gates.controls import hold_gates
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import DataSettings, TargetSettings, TrainSettings
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network, train_alone
from dynnas.training.weights.files import load_network, save_network

HERE = Path(__file__).parent
RESULT, TIMES, WEIGHTS = "result.json", "times.json", "weights.pt"
LR, TUNING_LR = 0.2, 0.1
CONTROLS = {"constant": False, "random": True}


@dataclass(frozen=True)
class TimingPlan:
    """What to do, as the command line says; results go to `out`, what they are made of to its `local/`."""

    data: str
    train_images: int | None
    epochs: int
    tuning_epochs: int
    gate_weight: float
    seeds: Sequence[int]
    families: Sequence[str]
    budgets: Sequence[float]
    tuned: Sequence[float]
    images: int
    seconds: float
    out: Path

    @property
    def local(self) -> Path:
        """Where finished work lies; that of another recipe lies elsewhere."""
        images = f"-{self.train_images}" if self.train_images else ""
        recipe = f"{self.epochs}+{self.tuning_epochs}-{self.gate_weight:g}"
        return self.out / "local" / f"{Path(self.data).stem}{images}-{recipe}"

    def folder(self, name: str, seed: int) -> Path:
        """Of a network."""
        return self.local / f"{name.replace(',', '').replace(' ', '-')}-seed{seed}"

    def recipe(self, seed: int, tuning: bool, new_gates: bool = False, **more: Any) -> Recipe:
        """Of the first training, or of what follows; the noise of new gates is to fall in it."""
        settings = TrainSettings(
            epochs=self.tuning_epochs if tuning else self.epochs, lr=TUNING_LR if tuning else LR,
            warmup_epochs=0.25, seed=seed, precision="float32", layout="channels_last",
            algorithms={"gate_budget": {"weight": self.gate_weight}, **more},
        )  # fmt: skip
        start = "inherited" if tuning and not new_gates else "scratch"
        return Recipe(settings, start, teacher="none", ema=0.99)

    def done(self, name: str, seed: int) -> dict[str, Any] | None:
        """What a finished network came to."""
        path = self.folder(name, seed) / RESULT
        return json.loads(path.read_text()) if path.exists() else None

    def finished(self) -> Iterator[tuple[str, str, float]]:
        """Names, families and budgets of the networks that are trained with every seed, remedies last."""
        for family in ALL:
            for budget in self.budgets:
                name = f"{family} {budget:g}"
                if all(self.done(name, seed) for seed in self.seeds):
                    yield name, family, budget

    def network(self, name: str, seed: int) -> Network:
        """A finished network."""
        done = self.done(name, seed)
        assert done is not None
        return load_network(self.folder(name, seed) / WEIGHTS, done["weights"])


@dataclass(frozen=True)
class Work:
    """The trainings of one seed."""

    plan: TimingPlan
    dataset: Dataset
    seed: int
    progress: Progress

    def run(self) -> None:
        """Static networks, then every family at every budget, with its controls."""
        for static in STATICS:
            if not self.plan.done(static.name, self.seed):
                network = self.base(static)
                self.finish(static.name, self.train(network, static.name, self.plan.recipe(self.seed, True)))
        for name in self.plan.families:
            if ALL[name].has_target:
                for budget in self.plan.budgets:
                    self.gated(name, budget)
            else:
                self.exits(name)

    def base(self, static: Static) -> Network:
        """A static network after the first training."""
        network = fresh_network(config_of(static_space(static, self.dataset), self.dataset), self.seed)
        return self.train(network, f"{static.name}, first", self.plan.recipe(self.seed, False))

    def train(self, network: Network, name: str, recipe: Recipe) -> Network:
        """Train in place, going on where it was left."""
        folder = self.plan.folder(name, self.seed)
        title = f"{name}, seed {self.seed}"
        return train_alone(network, self.dataset, recipe, folder, progress=self.progress, name=title)

    def start(self, name: str, budget: float) -> Network:
        """A family's network before its training."""
        return inherit(fresh_network(family_config(name, budget, self.dataset), self.seed), self.base(STATIC))

    def gated(self, family: str, budget: float) -> None:
        """Train for a budget; hold the gates, with the weights as they are and, if wanted, trained for it."""
        plan, name = self.plan, f"{family} {budget:g}"
        if not plan.done(name, self.seed):
            recipe = plan.recipe(self.seed, True, new_gates=True, **ALL[family].training)
            self.finish(name, self.train(self.start(family, budget), name, recipe))
        if not ALL[family].held:
            return
        for control, random in CONTROLS.items():
            for tuned in (False, True) if budget in plan.tuned else (False,):
                held = f"{name}, {control}{', tuned' if tuned else ''}"
                if plan.done(held, self.seed):
                    continue
                learned = plan.network(name, self.seed)
                shares = held_shares(gate_uses(learned, self.dataset), random)
                network = self.start(family, budget) if tuned else learned
                hold_gates(network, shares, random)
                if tuned:
                    network = self.train(network, held, plan.recipe(self.seed, True))
                else:
                    images = self.dataset.calibration_images(2048, self.seed)
                    network = calibrate(network, resize(images, network.config.resolution))
                self.finish(held, network)

    def exits(self, family: str) -> None:
        """Train once; fit thresholds for every budget on the search images."""
        plan = self.plan
        if all(plan.done(f"{family} {budget:g}", self.seed) for budget in plan.budgets):
            return
        recipe = plan.recipe(self.seed, True, **ALL[family].training)
        network = self.train(self.start(family, 1.0), family, recipe)
        search, test = (
            judge(
                predict_logits(network, self.dataset, part.images),
                network.config.exits,
                part.targets,
                self.dataset.task,
            )
            for part in (self.dataset.search, self.dataset.test)
        )
        size = cost(network.config)
        curve = budget_curve(search, test, size.exit_macs)
        full = cost(config_of(static_space(STATIC, self.dataset), self.dataset)).macs
        for budget in plan.budgets:
            point = min(curve, key=lambda point: abs(point.search.macs - budget * full))
            places = tuple(
                replace(place, threshold=threshold)
                for place, threshold in zip(network.config.exits, point.thresholds, strict=True)
            )
            network.config = replace(network.config, exits=places)
            # What leaving by lot would be worth, with as many images at each exit.
            shares = zip(point.test.shares, test.accuracies, strict=True)
            by_lot = sum(share * right for share, right in shares)
            self.finish(f"{family} {budget:g}", network, random=by_lot)

    def finish(self, name: str, network: Network, **more: float) -> None:
        """Score and keep a network; the result comes last."""
        folder = self.plan.folder(name, self.seed)
        scores = {split: accuracy(network, self.dataset, split) for split in ("search", "test")}
        test, size = scores["test"], cost(network.config)
        macs = (
            sum(test.gates.image_macs) / len(test.gates.image_macs)
            if test.gates
            else size.expected_macs(test.exit_shares)
        )
        found = {
            "search": scores["search"].top1,
            "test": test.top1,
            "macs": macs,
            "policies": test.gates.policies if test.gates else sum(share > 0 for share in test.exit_shares),
            "exit_shares": test.exit_shares,
            "gate_shares": test.gates.shares if test.gates else {},
            "weights": weights_digest(network),
            **more,
        }
        if not name.endswith(("constant", "random", "tuned")):  # a config cannot say that gates are held
            save_network(network, folder)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / RESULT, json.dumps(found, indent=1) + "\n")
        self.progress.message(f"{name}, seed {self.seed}: test accuracy {test.top1:.2%} at {macs:,.0f} MACs")


def train(plan: TimingPlan, progress: Progress) -> None:
    """Train and score every network, all of a seed before the next seed."""
    dataset = read_data(plan)
    for seed in plan.seeds:
        Work(plan, dataset, seed, progress).run()


def timed_names(plan: TimingPlan) -> Iterator[tuple[str, int]]:
    """Static networks with the first seed, whose weights do not matter; all others with every seed."""
    for static in STATICS:
        yield static.name, plan.seeds[0]
    for seed in plan.seeds:
        for name, _, _ in plan.finished():
            yield name, seed


def measure(plan: TimingPlan, progress: Progress) -> None:
    """Time all networks in the same rounds, those that depend on the image on many of them."""
    dataset, target = read_data(plan), TargetSettings(threads=1, seconds=plan.seconds)
    names, workloads = list(timed_names(plan)), []
    for name, seed in names:
        network = plan.network(name, seed)
        count = plan.images if network.config.branches else 1
        images = prepare_images(network, dataset, dataset.test.images[:count]).numpy()
        workloads.append(Workload(build_runner(network, target), [images[[at]] for at in range(count)]))
    seconds = plan.seconds * len(workloads)
    progress.message(f"timing {len(workloads)} networks together for {seconds:.0f} s")
    space = static_space(STATIC, dataset)
    meter = LatencyMeter(target, build_anchors(space, target, dataset.channels, dataset.task.outputs))
    measured = meter.measure_images(workloads, seconds)
    times = {
        f"{name}, seed {seed}": {
            "ms": latency.mean_ms,
            "p50_ms": latency.median_ms,
            "p95_ms": latency.p95_ms,
            "interval_ms": latency.interval_ms,
        }
        for (name, seed), (latency, _) in zip(names, measured, strict=True)
    }
    document = {"environment": environment_fingerprint(target), "times": times}
    atomic_write(plan.local / TIMES, json.dumps(document, indent=1) + "\n")


def point_of(plan: TimingPlan, name: str, times: dict[str, Any], **facts: Any) -> Point:
    """What is known of a network, over the seeds."""
    done = [found for seed in plan.seeds if (found := plan.done(name, seed))]
    timed = [times[key] for seed in plan.seeds if (key := f"{name}, seed {seed}") in times]
    return Point(
        name=name,
        accuracy=tuple(100 * each["test"] for each in done),
        macs=tuple(each["macs"] for each in done),
        policies=tuple(each["policies"] for each in done),
        ms=tuple(each["ms"] for each in timed),
        p50_ms=tuple(each["p50_ms"] for each in timed),
        p95_ms=tuple(each["p95_ms"] for each in timed),
        **facts,
    )


def report(plan: TimingPlan) -> None:
    """Write results.json and accuracy.png, and print the tables in Markdown."""
    path = plan.local / TIMES
    timed = json.loads(path.read_text()) if path.exists() else {"environment": None, "times": {}}
    times = timed["times"]
    statics = {static.name: point_of(plan, static.name, times) for static in STATICS}
    learned, controls = [], {}
    for name, family, budget in plan.finished():
        learned.append(point_of(plan, name, times, family=family, budget=budget))
        for control in CONTROLS:
            for held in (f"{name}, {control}", f"{name}, {control}, tuned"):
                if all(plan.done(held, seed) for seed in plan.seeds):
                    controls[held] = point_of(plan, held, {}, family=family, budget=budget)
        lots = [found.get("random") for seed in plan.seeds if (found := plan.done(name, seed))]
        if None not in lots:
            by_lot = tuple(100 * lot for lot in lots)
            controls[f"{name}, random"] = replace(
                learned[-1], name=f"{name}, random", accuracy=by_lot, ms=(), p50_ms=(), p95_ms=()
            )
    comparisons = {point.name: compare(point, statics) for point in learned}
    recipe = {
        field: getattr(plan, field)
        for field in ("data", "train_images", "epochs", "tuning_epochs", "gate_weight", "seeds", "images")
    }
    document = {
        "recipe": recipe,
        "environment": timed["environment"],
        "static": [asdict(point) for point in statics.values()],
        "learned": [asdict(point) for point in learned],
        "controls": [asdict(point) for point in controls.values()],
        "against_static_of_equal": {
            name: {cost: asdict(found) for cost, found in by_cost.items()}
            for name, by_cost in comparisons.items()
        },
    }
    atomic_write(plan.out / "results.json", json.dumps(document, indent=1) + "\n")
    draw(statics, [point for point in learned if point.family in FAMILIES], plan.out / "accuracy.png")
    print(tables(statics, learned, controls, comparisons))


def read_data(plan: TimingPlan) -> Dataset:
    """The images, varied no further: these trainings are too short to profit."""
    return load_data(DataSettings(source=plan.data, train_images=plan.train_images, augment="none"))


def main() -> None:
    """Read the command line and run the steps that it asks for."""
    parser = study_parser(__doc__, HERE, data="fashion-mnist", epochs=2, seeds=(0, 1), seconds=4.0)
    parser.add_argument("--tuning-epochs", type=int, default=1, help="of every network, after --epochs")
    parser.add_argument("--train-images", type=int, help="use only this many")
    parser.add_argument("--gate-weight", type=float, default=10.0)
    parser.add_argument(
        "--families", nargs="+", choices=tuple(ALL), default=list(FAMILIES), help="to be trained"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 0.65, 0.8])
    parser.add_argument("--tuned", type=float, nargs="*", default=[0.65], help="budgets of trained controls")
    parser.add_argument("--images", type=int, default=128, help="that networks are timed on")
    args = vars(parser.parse_args())
    step, plan = args.pop("step"), TimingPlan(**args)
    run_steps(step, partial(train, plan), partial(measure, plan), partial(report, plan))


if __name__ == "__main__":
    run_study(main)
