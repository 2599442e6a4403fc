"""What each part of a training recipe gives in equal seconds: a space file's recipe, and with one change.

    python tests/bench/recipes.py spaces/fashion.yaml --seconds 600 --seeds 0 1 2 --only alpha largest_every

Each supernet has the same processor seconds, by the time that its own steps take, and with them its own
number of steps; its learning rate falls to 0 at its end. Arithmetic is the space file's, and plain where
that says `auto`. Printed are the scores, on the search split and with
inherited weights, of the largest and the smallest network and the mean of random ones, as a mean over seeds
and its difference from the recipe without the change, with that difference's standard error over seeds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dynnas.candidates.candidate import Extractor
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.errors import TrainingError
from dynnas.language.parser import load_space
from dynnas.language.study_space import StudySpace
from dynnas.metrics.accuracy import accuracy
from dynnas.settings.settings import TrainSettings
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.make import make_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.training.batches import DatasetBatches
from dynnas.training.recipe import layouts_of, precisions_of, supernet_algorithms
from dynnas.training.schedule import Cosine, make_optimizer
from dynnas.training.trainer import Trainer

CHANGES: Mapping[str, Mapping[str, Any]] = {
    "alpha": {"in_place_distillation": {"divergence": "alpha"}},
    "teacher alone": {"in_place_distillation": {"weight": 1.0}},
    "largest_every": {"sandwich": {"largest_every": 4}},
    "largest first": {"sandwich": {"largest_first": 0.3}},
    "largest first, half": {"sandwich": {"largest_first": 0.5}},
    "largest first, then always": {"sandwich": {"largest_first": 0.3, "largest_every": 1}},
    "largest alone": {"sandwich": {"largest_first": 1.0}},
    "one random": {"sandwich": {"random": 1}},
    "regularized_largest": {"regularized_largest": {}},
    "fair_sampling": {"sandwich": False, "fair_sampling": {}, "in_place_distillation": {"weight": 0.0}},
    "attentive, best": {"attentive_sampling": {}},
    "attentive, worst": {"attentive_sampling": {"prefer": "worst"}},
    "adjacent": {"adjacent_sampling": {}},
    "progressive": {"progressive_resolution": {}},
    "mixup": {"mixup": {}},
    "ema": {"ema": {}},
    "no smoothing": {"label_smoothing": False},
}
WARM_UP, TIMED = 2, 12
COLUMNS = ("largest", "smallest", "random")


def trainer_of(supernet: Supernet, dataset: Dataset, settings: TrainSettings) -> Trainer:
    return Trainer(
        supernet,
        dataset.task,
        DatasetBatches(dataset, settings.batch, settings.seed),
        algorithms=supernet_algorithms(settings),
        optimizer=partial(make_optimizer, settings=settings),
        schedule=Cosine(settings.warmup_epochs),
        epochs=settings.epochs,
        accumulate=settings.accumulate,
        seed=settings.seed,
        clip_norm=settings.clip_norm,
        layouts=layouts_of(settings)[:1],
        precisions=precisions_of(settings)[:1],
    )


def step_seconds(trainer: Trainer) -> float:
    """Processor seconds of a step: the mean over steps of the whole training, which need not be alike."""
    for _ in range(WARM_UP):
        trainer.advance()
    seconds = 0.0
    for place in range(TIMED):
        trainer.run.step = place * trainer.run.total // TIMED
        start = time.process_time()
        trainer.advance()
        seconds += time.process_time() - start
    return seconds / TIMED


def trained(
    space: StudySpace, dataset: Dataset, settings: TrainSettings, seconds: float
) -> tuple[Supernet, int]:
    """The supernet, and the number of its steps."""
    make = partial(
        make_supernet,
        space,
        dataset.channels,
        dataset.task.outputs,
        experts=settings.experts,
        seed=settings.seed,
    )
    steps = max(1, round(seconds / step_seconds(trainer_of(make(), dataset, settings))))
    supernet = make()
    trainer = trainer_of(supernet, dataset, settings)
    trainer.run.total = steps
    trainer.fit()
    return supernet, steps


def scores(
    space: StudySpace, supernet: Supernet, dataset: Dataset, settings: TrainSettings, members: int
) -> list[float]:
    """Of the largest, of the smallest, and the mean of random networks, the same for every recipe."""
    rng = random.Random("recipes")
    chosen = [largest(space), smallest(space), *(sample(space, rng) for _ in range(members))]
    extractor = Extractor(supernet, dataset, settings, space.settings.target)
    name = dataset.task.metrics[0].name
    first, second, *rest = (
        accuracy(extractor.candidate(each).calibrated, dataset).scores[name] for each in chosen
    )
    return [first, second, statistics.mean(rest)]


def differs(changed: Sequence[float], base: Sequence[float]) -> str:
    """The mean difference over seeds, in points, and its standard error where there are several."""
    each = [100 * (one - other) for one, other in zip(changed, base, strict=True)]
    error = statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else None
    return f"{statistics.mean(each):+6.2f}" + (f" ±{error:4.2f}" if error is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("space", type=Path)
    parser.add_argument("--seconds", type=float, default=600, help="processor seconds of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--members", type=int, default=8, help="random networks that are scored")
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), default=list(CHANGES))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    space = load_space(arguments.space)
    dataset = load_data(space.settings.data)
    space = space.of_data(dataset.shape, dataset.task)
    recipes = {"as it is": {}, **{name: CHANGES[name] for name in arguments.only}}
    base: list[list[float]] = []
    print(f"{arguments.space.name}, {arguments.seconds:g} processor seconds, seeds {arguments.seeds}; points")
    print(f"{'recipe':<20} {'steps':>7} " + " ".join(f"{name:>22}" for name in COLUMNS), flush=True)
    for name, changes in recipes.items():
        found, steps = [], 0
        try:
            for seed in arguments.seeds:
                settings = replace(space.settings.train, seed=seed)
                settings = settings.with_algorithms(**changes)
                supernet, steps = trained(space, dataset, settings, arguments.seconds)
                found.append(scores(space, supernet, dataset, settings, arguments.members))
        except TrainingError as error:
            print(f"{name:<20} {error}", flush=True)
            continue
        columns = list(zip(*found, strict=True))
        base = base or columns
        cells = [
            f"{100 * statistics.mean(column):6.2f}" + (f" ({differs(column, other)})" if changes else "")
            for column, other in zip(columns, base, strict=True)
        ]
        print(f"{name:<20} {steps:>7} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
