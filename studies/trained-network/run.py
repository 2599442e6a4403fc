"""A trained network made elastic, beside what other tools make of it and beside fresh weights.

    python studies/trained-network/run.py --data imagenette224_jpeg.npz [--networks resnet mobilenet]
        [--methods tuned torch-pruning fastnas longer crops matching ... fresh] [--seeds 0 1] [--size 64]
        [--epochs 30] [--tuning 4] [--trials 60] [--out DIR]

For each network and seed:

- `trained`: it is trained for `--epochs`.
- `elastic`: `dynnas.elastic` makes a space of it, whose supernet is tuned for `--tuning` epochs; of its front
  of accuracy and measured milliseconds two members are tuned alone, for half of that: the most accurate ones
  that took at most 75% and 50% of the trained network's time.
- `tuned`, `torch-pruning`, `fastnas`: the network itself, and two networks of either tool, tuned with the
  trained network as their teacher for as much processor time as `elastic` took in all. What is not
  installed is left out (`pip install torch-pruning nvidia-modelopt torchprofile==0.0.4`).
- `longer`, `crops`, `matching`: the members of `elastic` tuned for eight times as long, from the weights of
  the supernet: in the same way; on random crops, as the network itself is; and by the teacher's outputs alone
  on mixed images, likewise.
- `torch-pruning-crops`, `fastnas-crops`: the networks of either tool, tuned as `crops` tunes members.
- `fresh`: the space of `elastic` with new weights. Its supernet is trained for as much processor time as the
  network and the supernet of `elastic` together.

All networks of a seed are timed in the same rounds. Interrupted, also by kill -9, the same command goes on.
What is made is kept under `local/`, and the figures in `results.json`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
import torch
from clock import Clock, Timed, once
from networks import NETWORKS, drawn
from pictures import shrunk
from remedies import REMEDIES, Remedy
from results import table
from rivals import METHODS, Task, load
from shared import run_study
from torch import nn
from torch.nn import functional as F

import dynnas as dn
from dynnas.candidates.candidate import workload_of
from dynnas.cli.progress import show_progress
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.pareto.front import ScoredArchitecture
from dynnas.progress import Progress
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.search.evaluators.supernet import open_meter
from dynnas.settings.settings import DataSettings, TargetSettings, TrainSettings
from dynnas.space.moves import largest
from dynnas.space.space import Space
from dynnas.study.scores import scores_of
from dynnas.study.study import Study
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import train_alone
from dynnas.workflows.train import train_members

HERE = Path(__file__).parent
TIMES = (0.75, 0.5)
"""Shares of the trained network's time that picked members may take."""
LR, TUNING_LR = 0.1, 0.02
FRESH = "fresh"
ON_CROPS = {f"{method}-crops": method for method in METHODS if METHODS[method].needs}
"""Networks of other tools that are tuned as `crops` tunes those of `elastic`, by the tool."""


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    epochs: int
    tuning: int
    trials: int
    width: int | None
    batch: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """One network with one seed."""

    name: str
    seed: int
    dataset: Dataset
    scale: Scale
    folder: Path
    progress: Progress
    methods: Sequence[str]

    @property
    def clock(self) -> Clock:
        """What was spent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Clock(self.folder / "seconds.json")

    @property
    def member_epochs(self) -> int:
        """Epochs that members are tuned for."""
        return max(1, self.scale.tuning // 2)

    def once(self, name: str, number: Callable[[], int]) -> int:
        """Return a number that is worked out once and kept: it follows from times, and must not change."""
        return once(self.folder / "numbers.json", name, number)

    def train(self, epochs: int, lr: float) -> TrainSettings:
        """Return the settings of a training."""
        warmup = min(1.0, epochs / 4)
        return TrainSettings(
            epochs=epochs,
            batch=self.scale.batch,
            lr=lr,
            warmup_epochs=warmup,
            precision="float32",
            layout="channels_last",
            seed=self.seed,
        )

    def plain(self, module: nn.Module) -> Any:
        """Return a module as a network for the images of the data."""
        return PlainNetwork(module.eval(), self.dataset.shape, self.dataset.task.outputs)

    def trained(self) -> nn.Module:
        """Return the network, trained."""
        data, scale = self.dataset, self.scale
        module = drawn(self.name, data.channels, data.task.outputs, scale.width, self.seed)
        recipe = Recipe(self.train(scale.epochs, LR), start="scratch", teacher="none")
        progress = Timed(self.progress, self.clock, "trained")
        network = self.plain(module)
        found: Any = train_alone(
            network, data, recipe, self.folder / "trained", progress=progress, name="training"
        )
        return found.module

    def space(self, module: nn.Module, fresh: bool = False) -> Space:
        """Return the space that is made of the network."""
        image = torch.zeros(1, *self.dataset.shape)
        return dn.elastic(module, image, fresh=fresh, seed=self.seed + 1 if fresh else 0)

    def searched(self, what: str, space: Space, train: TrainSettings) -> tuple[Study, dict[str, nn.Module]]:
        """Return the study of a space, and members of its front, tuned alone, by their share of the time."""
        scale = self.scale
        with self.clock.spent(what):
            front: Any = dn.search(
                space,
                data=self.dataset,
                train=train,
                target=TargetSettings(seconds=scale.seconds),
                starts=[largest(space)],
                trials=scale.trials,
                controls=False,
                seed=self.seed,
                folder=self.folder / what,
                progress=Timed(self.progress, self.clock, f"{what} supernet"),
            )
            study: Study = front.study
            picked = picked_members(study, largest(space).key)
            recipe = Recipe(self.train(self.member_epochs, TUNING_LR))
            members = list({each.key: each for each in picked.values()}.values())
            made = {each.key: each for each in train_members(study, members, recipe, self.progress)}
        modules: dict[str, Any] = {
            f"{share:g} of the time": study.trained_network(made[each.key]) for share, each in picked.items()
        }
        return study, {name: each.module for name, each in modules.items()}

    def remedied(
        self, name: str, remedy: Remedy, starts: Mapping[str, Any], network: nn.Module
    ) -> dict[str, nn.Module]:
        """Tune networks in another way, and return their modules by their names."""
        recipe = remedy.recipe(self.train(remedy.times * self.member_epochs, TUNING_LR))
        found: dict[str, nn.Module] = {}
        for which, start in starts.items():
            progress = Timed(self.progress, self.clock, f"{name} {which}")
            tuned: Any = train_alone(
                start, remedy.data(self.dataset), recipe, self.folder / name / which.partition(" ")[0],
                teacher=self.plain(network), progress=progress, name="training",
            )  # fmt: skip
            found[which] = tuned.module
        return found

    def members(self, study: Study) -> dict[str, Any]:
        """Return the picked members of a study, with the weights of its supernet."""
        picked = picked_members(study, largest(study.space).key)
        return {
            f"{share:g} of the time": study.extractor.candidate(each.architecture).copy()
            for share, each in picked.items()
        }

    def pruned(self, method: str, share: float, network: nn.Module) -> nn.Module:
        """Return what another tool makes of the network, before it is tuned."""
        folder = self.folder / method
        kept = folder / f"{share:g}.pt"
        pruned = load(kept)
        if pruned is None:
            folder.mkdir(parents=True, exist_ok=True)
            with self.clock.spent(f"{method} search"):
                images = self.dataset.calibration_images(4 * self.scale.batch, self.seed).cpu()
                task = Task(network, images[:1], images.split(self.scale.batch), self.accuracy, folder)
                pruned = METHODS[method].make(task, share)
            draft = kept.with_suffix(".draft")
            torch.save(pruned, draft)
            draft.replace(kept)
        return pruned

    def rival(self, method: str, share: float, network: nn.Module, seconds: float) -> nn.Module:
        """Return what another tool makes of the network, tuned for some seconds of processor time."""
        pruned = self.pruned(method, share, network)
        epochs = self.once(
            f"{method} {share:g}", lambda: max(1, round(seconds / self.epoch_seconds(pruned, network)))
        )
        recipe = Recipe(self.train(epochs, TUNING_LR))
        progress = Timed(self.progress, self.clock, f"{method} {share:g}")
        tuned: Any = train_alone(
            self.plain(pruned), self.dataset, recipe, self.folder / method / f"{share:g}",
            teacher=self.plain(network), progress=progress, name="training",
        )  # fmt: skip
        return tuned.module

    def epoch_seconds(self, module: nn.Module, teacher: nn.Module) -> float:
        """Return the processor time of an epoch of training with a teacher, by some of its steps."""
        module, taken = copy.deepcopy(module), []
        batches = self.dataset.training_batches(self.seed, 0, self.scale.batch, 0, 3)
        for images, targets in batches:
            start = time.process_time()
            with torch.no_grad():
                teacher.eval()(images)
            F.cross_entropy(module.train()(images), targets).backward()
            taken.append(time.process_time() - start)
        return min(taken) * self.dataset.steps(self.scale.batch)

    @torch.no_grad()
    def accuracy(self, module: nn.Module) -> float:
        """Return the accuracy of a module on the search images."""
        search = self.dataset.search
        found = self.dataset.evaluation_batches(search, 256)
        module.eval()
        right = sum(int((module(images).argmax(1) == targets).sum()) for images, targets in found)
        return right / len(search)

    def rows(self) -> list[dict[str, Any]]:
        """Run what is missing, and return the figures of all networks."""
        path = self.folder / "rows.json"
        tools = {
            name: METHODS[ON_CROPS.get(name, name)] for name in self.methods if name in {*METHODS, *ON_CROPS}
        }
        missing = [name for name, tool in tools.items() if not tool.installed]
        for name in missing:
            self.progress.message(f"{name}: {tools[name].needs} is not installed, so it is left out")
        methods = [name for name in self.methods if name not in missing]
        found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        if {"trained", "elastic", *methods} <= {row["method"] for row in found}:
            return found
        network, scale = self.trained(), self.scale
        made: dict[tuple[str, str], nn.Module] = {("trained", ""): network}
        self.progress.message(f"{self.name}, seed {self.seed}: elastic")
        study, members = self.searched("elastic", self.space(network), self.train(scale.tuning, TUNING_LR))
        made |= {("elastic", which): each for which, each in members.items()}
        seconds = self.seconds_of("elastic")
        for method, each in METHODS.items():
            for share in each.shares if method in methods else ():
                self.progress.message(f"{self.name}, seed {self.seed}: {method} {share:g}")
                made[method, f"{share:g}"] = self.rival(method, share, network, seconds / len(each.shares))
        for name, remedy in REMEDIES.items():
            if name in methods:
                self.progress.message(f"{self.name}, seed {self.seed}: {name}")
                starts = self.members(study)
                if remedy.whole:
                    starts["1"] = self.plain(copy.deepcopy(network))
                tuned = self.remedied(name, remedy, starts, network)
                made |= {(name, which): each for which, each in tuned.items()}
        for name, method in ON_CROPS.items():
            if name in methods:
                self.progress.message(f"{self.name}, seed {self.seed}: {name}")
                shares = METHODS[method].shares
                starts = {f"{share:g}": self.plain(self.pruned(method, share, network)) for share in shares}
                tuned = self.remedied(name, REMEDIES["crops"], starts, network)
                made |= {(name, which): each for which, each in tuned.items()}
        if FRESH in methods:
            self.progress.message(f"{self.name}, seed {self.seed}: fresh")
            train = self.train(self.fresh_epochs(), LR)
            _, members = self.searched(FRESH, self.space(network, fresh=True), train)
            made |= {(FRESH, which): each for which, each in members.items()}
        rows = self.measured(study, made)
        atomic_write(path, json.dumps(rows, indent=1))
        return rows

    def seconds_of(self, what: str) -> int:
        """Return what was spent on something when it was first done: to read it again takes time as well."""
        return self.once(f"{what} seconds", lambda: round(self.clock.seconds[what]))

    def fresh_epochs(self) -> int:
        """Return the epochs that a supernet is trained for in the time of the network and of its supernet."""

        def epochs() -> int:
            spent = self.clock.seconds
            each = spent["elastic supernet"] / self.scale.tuning
            return self.scale.tuning + max(1, round(spent["trained"] / each))

        return self.once("fresh epochs", epochs)

    def measured(self, study: Study, made: dict[tuple[str, str], nn.Module]) -> list[dict[str, Any]]:
        """Return the figures of networks, whose times are taken in the same rounds."""
        networks = [self.plain(each) for each in made.values()]
        meter = open_meter(study.folder.anchors, study.space, self.dataset)
        latencies = meter.measure_jointly(
            [workload_of(each, self.dataset, meter.target) for each in networks]
        )
        spent, rows = self.clock.seconds, []
        for (method, which), each, latency in zip(made, networks, latencies, strict=True):
            size = cost_of(each)
            own = spent.get(f"{method} {which}")
            own = self.seconds_of(method) if own is None else own
            rows.append(
                {"network": self.name, "seed": self.seed, "method": method, "which": which}
                | scores_of(each, self.dataset)
                | {"ms": latency.latency_ms, "interval_ms": latency.interval_ms}
                | {"macs": size.macs, "params": size.params}
                | {"seconds": own}
                | {"search_seconds": spent.get(f"{ON_CROPS.get(method, method)} search", 0.0)}
            )
        return rows


def picked_members(study: Study, whole: str) -> dict[float, ScoredArchitecture]:
    """Return the most accurate members of the front for each share of the whole network's time.

    Where none is as fast, the fastest stands for it.
    """
    time_of_whole = next(each.metrics["latency_ms"] for each in study.candidates if each.key == whole)
    found = {}
    for share in TIMES:
        try:
            found[share] = study.front.pick(f"latency_ms<={share * time_of_whole:.6f}")
        except StudyError:
            found[share] = study.front.pick("fastest")
    return found


def main() -> None:
    """Run what is missing, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a packed file of JPEG, or as in `data: source`")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    methods = (*METHODS, *REMEDIES, *ON_CROPS, FRESH)
    parser.add_argument(
        "--methods", nargs="*", choices=methods, default=list(methods), help="to compare elastic with"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, default=64, help="side to which packed pictures are brought")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--tuning", type=int, default=4)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--width", type=int, help="of the networks, in place of their own")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.2, help="for timing a network")
    parser.add_argument("--train-images", type=int, help="use only this many")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results and of local/")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scale = Scale(given.epochs, given.tuning, given.trials, given.width, given.batch, given.seconds)
    facts = asdict(scale) | {"size": given.size, "train_images": given.train_images}
    rows: list[dict[str, Any]] = []
    with show_progress() as progress:
        source = shrunk(given.data, given.size, given.out / "local")
        dataset = load_data(DataSettings(source=source, train_images=given.train_images), progress)
        for seed in given.seeds:
            for name in given.networks:
                folder = given.out / "local" / f"{name}-{seed}"
                rows += Comparison(name, seed, dataset, scale, folder, progress, given.methods).rows()
                document = {"data": Path(given.data).name, "scale": facts, "rows": rows}
                atomic_write(given.out / "results.json", json.dumps(document, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    run_study(main)
