"""Pruned, rewound, retrained and fresh networks of equal size and training time.

    python studies/pruning-rethought/run.py --cifar10 cifar10.npz
        [--data fashion-mnist cifar10] [--seeds 0 1 2] [--epochs 8] [--train-images 10000] [--out DIR]

For each data set and seed a ResNet is trained for `--epochs`; two families of smaller networks follow.

Channels: half of those of every layer go (`dynnas compress --pass prune`), which leaves the very network that
has half the width.

- `pruned, magnitude`, `taylor`, `obd`, `random`: tuned for as many epochs at a fifth of the learning rate.
- `retrained`: those of magnitude, trained again with the whole schedule of learning rates.
- `rewound`: those of magnitude, with the weights after the first epoch, trained from there to the end.
- `fresh`: new weights, trained for as many epochs.
- `fresh, as long`: the same, for as much processor time as the dense and the pruned network's trainings took.

Weights: 90% of the single weights go (`dynnas compress --pass lottery`).

- `rewound`: those that are left are put back to the first epoch, and trained from there to the end.
- `retrained`: they stay as trained; the learning rate alone goes back.
- `fresh`: new weights under the same mask, trained from the beginning.
- `untrained`: the weights after the first epoch under the mask.

Interrupted, also by kill -9, the same command goes on. What is made is kept under `local/`, and the figures
in `results.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where `clock` and `shared` lie
import torch
from clock import Clock, Timed, once
from networks import ResNet, drawn
from results import draw, tables
from shared import run_study
from torch import nn

from dynnas.candidates.candidate import workload_of
from dynnas.cli.progress import show_progress
from dynnas.compression import PASSES, CompressedModel, CompressionInput
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.files import atomic_write
from dynnas.language.study_space import StudySpace
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.search.evaluators.supernet import open_meter
from dynnas.settings.settings import DataSettings, Settings, TargetSettings, TrainSettings
from dynnas.space.space import Space
from dynnas.study.scores import scores_of
from dynnas.supernet.prunable import PrunableModule
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import train_alone
from dynnas.training.weights.files import load_network, save_network

HERE = Path(__file__).parent
LR, TUNING_LR = 0.1, 0.02
REWIND = 1
CHANNELS, WEIGHTS = 0.5, 0.9
"""Shares of channels and of single weights that go."""
IMPORTANCES = ("magnitude", "taylor", "obd", "random")
TICKETS = {"rewound": "rewound", "retrained": "trained", "fresh": "fresh"}
"""What the pass calls the weights that a way begins with."""
NEW = 1000
"""Number by which the seed of new weights differs."""


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    epochs: int
    train_images: int
    width: int
    batch: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """All ways on one data set with one seed."""

    data: str
    seed: int
    dataset: Dataset
    scale: Scale
    folder: Path
    progress: Progress

    @property
    def clock(self) -> Clock:
        """What was spent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Clock(self.folder / "seconds.json")

    def once(self, name: str, number: Callable[[], float]) -> int:
        """Return a whole number that follows from times, worked out once."""
        return once(self.folder / "numbers.json", name, lambda: max(1, round(number())))

    def seconds_of(self, what: str) -> float:
        """Return what was spent on something when it was first done: to read it again takes time as well."""
        return self.once(f"{what} ms", lambda: 1000 * self.clock.seconds[what]) / 1000

    def recipe(self, epochs: int | None = None, lr: float = LR, start: str = "scratch") -> Recipe:
        """Return the recipe of a training, by labels alone."""
        epochs = epochs or self.scale.epochs
        train = TrainSettings(
            epochs=epochs,
            batch=self.scale.batch,
            lr=lr,
            warmup_epochs=min(1.0, epochs / 4),
            precision="float32",
            layout="channels_last",
            calibration_images=1024,
            seed=self.seed,
        )
        return Recipe(train, start=start, teacher="none", ema=0.0)

    def plain(self, module: nn.Module) -> Any:
        """Return a module as a network for the images of the data."""
        return PlainNetwork(module.eval(), self.dataset.shape, self.dataset.task.outputs)

    def fresh(self, seed: int, width: int | None = None) -> Any:
        """Return a network with new weights."""
        data = self.dataset
        return self.plain(drawn(data.channels, data.task.outputs, width or self.scale.width, seed))

    def trained(self, network: Any, recipe: Recipe, what: str) -> Any:
        """Return a network after its training, whose time is noted."""
        progress = Timed(self.progress, self.clock, what)
        folder = self.folder / what
        return train_alone(network, self.dataset, recipe, folder, progress=progress, name="training")

    def compressed(
        self, method: str, network: Any, recipe: Recipe, what: str, **options: Any
    ) -> CompressedModel:
        """Return what a pass of dynnas makes of the dense network; tickets share its training."""
        lottery = method == "lottery"
        progress = Timed(
            self.progress, self.clock, what, f"{options['start']} ticket" if lottery else "tuning"
        )
        if lottery:
            progress = Timed(progress, self.clock, "dense", "dense")
        source = CompressionInput(
            network=network,
            dataset=self.dataset,
            recipe=recipe,
            teacher=None,
            folder=self.folder / ("weights" if lottery else what),
            options=PASSES[method].options | options,
            progress=progress,
            device="cpu",
            fresh=self.fresh,
        )
        return PASSES[method].run(source)

    @cached_property
    def ticket(self) -> CompressedModel:
        """The first ticket: with it come the dense network, and its weights after the first epoch."""
        begun = self.fresh(self.seed)
        options = {"amount": WEIGHTS, "rewind": REWIND, "start": TICKETS["rewound"]}
        return self.compressed("lottery", begun, self.recipe(), "weights rewound", **options)

    @property
    def dense(self) -> Any:
        """The trained network."""
        return self.ticket.controls["dense, trained alike"]

    @property
    def early(self) -> Any:
        """The network after the first epoch."""
        self.ticket  # noqa: B018  it is made on the way
        folder = self.folder / "weights" / "early"
        return load_network(
            folder / "weights.pt", (folder / "digest").read_text(), partial(self.fresh, self.seed)
        )

    def ways(self) -> Mapping[tuple[str, str], Callable[[], Network]]:
        """Return what makes the network of each family and way, in order."""
        tuning, whole = self.recipe(lr=TUNING_LR, start="inherited"), self.recipe(start="inherited")
        found: dict[tuple[str, str], Callable[[], Any]] = {("dense", "trained"): lambda: self.dense}
        found["dense", "as long"] = self._dense_as_long
        for name in IMPORTANCES:
            found["channels", f"pruned, {name}"] = partial(self._pruned, f"pruned, {name}", tuning, name)
        found["channels", "retrained"] = partial(self._pruned, "retrained", whole, "magnitude")
        found["channels", "rewound"] = self._rewound
        found["channels", "fresh"] = partial(self._fresh, "fresh", self.scale.epochs)
        found["channels", "fresh, as long"] = self._fresh_as_long
        found["weights", "rewound"] = lambda: self.ticket.network
        for way in ("retrained", "fresh"):
            found["weights", way] = partial(self._ticket, way)
        found["weights", "untrained"] = lambda: self.ticket.controls["early weights under the mask"]
        return found

    def _dense_as_long(self) -> Any:
        return self.trained(self.fresh(self.seed), self.recipe(2 * self.scale.epochs), "dense as long")

    def _pruned(self, way: str, recipe: Recipe, importance: str) -> Any:
        options = {"amount": CHANNELS, "importance": importance}
        return self.compressed("prune", self.dense, recipe, f"channels {way}", **options).network

    def _rewound(self) -> Any:
        found = PrunableModule.of(self.dense.module, self.dataset.shape)
        small = found.rewound(self.early.module).pruned(found.widths(CHANNELS))
        progress = Timed(self.progress, self.clock, "channels rewound")
        return train_alone(
            self.plain(small), self.dataset, self.recipe(), self.folder / "channels rewound",
            since=REWIND, progress=progress, name="training",
        )  # fmt: skip

    def _fresh(self, way: str, epochs: int) -> Any:
        network = self.fresh(self.seed + NEW, round(self.scale.width * (1 - CHANNELS)))
        return self.trained(network, self.recipe(epochs), f"channels {way}")

    def _fresh_as_long(self) -> Any:
        def epochs() -> float:
            own = self.seconds_of("channels fresh") / self.scale.epochs
            return (self.seconds_of("dense") + self.seconds_of("channels pruned, magnitude")) / own

        return self._fresh("fresh, as long", self.once("epochs as long", epochs))

    def _ticket(self, way: str) -> Any:
        options = {"amount": WEIGHTS, "rewind": REWIND, "start": TICKETS[way]}
        return self.compressed("lottery", self.dense, self.recipe(), f"weights {way}", **options).network

    def rows(self) -> list[dict[str, Any]]:
        """Run what is missing, and return the figures of all networks."""
        found = [self.row(family, way, make) for (family, way), make in self.ways().items()]
        times = self.times()
        return [row | times[row["family"] if row["family"] in times else "dense"] for row in found]

    def row(self, family: str, way: str, make: Callable[[], Network]) -> dict[str, Any]:
        """Return the figures of a network, which are kept."""
        folder = self.folder / "made" / f"{family} {way}"
        kept = folder / "row.json"
        if kept.exists():
            known: dict[str, Any] = json.loads(kept.read_text())
            return known
        self.progress.message(f"{self.data}, seed {self.seed}: {family}, {way}")
        network = make()
        size = cost_of(network)
        weights = [value for value in network.parameters() if value.ndim > 1]
        left = sum(int((value != 0).sum()) for value in weights)
        what = {"trained": "dense", "as long": "dense as long"}.get(way, f"{family} {way}")
        own = self.seconds_of(what) if what in self.clock.seconds else 0
        before = self.seconds_of("dense") if self._follows(family, way) else 0
        made = {"data": self.data, "seed": self.seed, "family": family, "way": way}
        made |= scores_of(network, self.dataset)
        made |= {"macs": size.macs, "params": size.params, "weights_left": left}
        made |= {"seconds": own, "all_seconds": own + before}
        save_network(network, folder)
        atomic_write(kept, json.dumps(made))
        return made

    @staticmethod
    def _follows(family: str, way: str) -> bool:
        """Whether a way needs the dense network's training."""
        return family == "weights" or (family == "channels" and not way.startswith("fresh"))

    def times(self) -> dict[str, dict[str, float]]:
        """Return the times of the dense network, of the one with half the channels and of a ticket."""
        kept = self.folder / "times.json"
        if kept.exists():
            known: dict[str, dict[str, float]] = json.loads(kept.read_text())
            return known
        data, scale = self.dataset, self.scale
        networks = {
            "dense": self.dense,
            "channels": self.fresh(self.seed, round(scale.width * (1 - CHANNELS))),
            "weights": self.ticket.network,
        }
        settings = Settings(target=TargetSettings(seconds=scale.seconds))
        only = {"channels": [data.channels], "classes": [data.task.outputs], "width": [scale.width]}
        space = StudySpace.around(Space.of(ResNet, **only), settings=settings)
        meter = open_meter(self.folder / "anchors.json", space, data)
        found = meter.measure_jointly([workload_of(each, data, meter.target) for each in networks.values()])
        times = {
            name: {"ms": each.latency_ms, "low_ms": each.interval_ms[0], "high_ms": each.interval_ms[1]}
            for name, each in zip(networks, found, strict=True)
        }
        atomic_write(kept, json.dumps(times))
        return times


def main() -> None:
    """Run what is missing, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs="+", default=["fashion-mnist", "cifar10"], help="as in `data: source`"
    )
    parser.add_argument("--cifar10", default="cifar10", help="where CIFAR-10 lies, as in `data: source`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--train-images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.5, help="for timing a network")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results and of local/")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scale = Scale(given.epochs, given.train_images, given.width, given.batch, given.seconds)
    rows: list[dict[str, Any]] = []
    with show_progress() as progress:
        datasets: dict[str, Dataset] = {}
        for seed in given.seeds:
            for name in given.data:
                if name not in datasets:
                    source = given.cifar10 if name == "cifar10" else name
                    settings = DataSettings(source, train_images=given.train_images, search_images=1000)
                    datasets[name] = load_data(settings, progress)
                folder = given.out / "local" / f"{name}-{seed}"
                rows += Comparison(name, seed, datasets[name], scale, folder, progress).rows()
                document = {"scale": asdict(scale), "rows": rows}
                atomic_write(given.out / "results.json", json.dumps(document, indent=1) + "\n")
    draw(rows, given.out / "accuracy.png")
    print(tables(rows))


if __name__ == "__main__":
    run_study(main)
