"""How well a supernet ranks the networks of NAS-Bench-Macro, whose accuracies are known.

    python tests/bench/nbmacro.py FOLDER [--recipe plain] [--epochs 30] [--networks 500] [--side 32]

A supernet of all 6,561 networks is trained on CIFAR-10 by a recipe, and scores networks by inherited weights
on images that it was not trained on, each with batch-norm statistics of its own. Printed are Kendall's tau
between these scores and the accuracies of the table (the mean of three trainings each, on the test images of
CIFAR-10), beside that of multiply-adds alone, and the regrets: how many points of the table the best of the
five, and of the ten, networks with the highest scores are below the best one that was scored.

What is done lies in FOLDER: started again with the same arguments, the training goes on from its checkpoint
and the scoring from the last network. CIFAR-10 and `nbmacro_cifar10.npz` are looked for in $DYNNAS_DATA. The
copy of CIFAR-10 there is lossy; the table's trainings had the original.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.macro_net import LAYERS, macro_space
from support.real_data import MACRO_FILE

from dynnas.candidates.candidate import Extractor
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.files import atomic_write
from dynnas.metrics.accuracy import accuracy
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.supernet.supernet import Supernet
from dynnas.training.start import train_supernet

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "alpha": {"in_place_distillation": {"divergence": "alpha"}},
    "fair": {"sandwich": False, "fair_sampling": {}, "in_place_distillation": {"weight": 0.0}},
    "attentive": {"attentive_sampling": {}},
    "adjacent": {"adjacent_sampling": {}},
}
"""The changes to the recipe of supernets, as in a space file's `train.algorithms`."""


def table() -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """The row of each network by its choices, its accuracy in per cent, and its multiply-adds."""
    with np.load(MACRO_FILE) as found:
        names = ["".join(map(str, row)) for row in found["choice"]]
        return {name: at for at, name in enumerate(names)}, found["test_acc"].mean(1), found["flops"]


def trained(arguments: argparse.Namespace, dataset: Dataset, settings: TrainSettings) -> Supernet:
    """The supernet, trained to the end."""
    supernet = Supernet(macro_space(arguments.sharing, arguments.side), seed=settings.seed)
    start = time.monotonic()
    train_supernet(supernet, dataset, settings, arguments.folder, device=arguments.device)
    print(f"trained in {time.monotonic() - start:.0f} s of this run", flush=True)
    return supernet


def scored(
    arguments: argparse.Namespace, supernet: Supernet, dataset: Dataset, settings: TrainSettings
) -> dict[str, float]:
    """The scores of networks drawn by a fixed seed, kept in the folder one by one."""
    file = arguments.folder / "scores.json"
    digest = supernet.digest()
    kept = json.loads(file.read_text()) if file.exists() else {}
    scores: dict[str, float] = kept.get("scores", {}) if kept.get("weights") == digest else {}
    names = sorted(table()[0])
    random.Random("nbmacro").shuffle(names)
    extractor = Extractor(supernet, dataset, settings)
    for name in names[: arguments.networks]:
        if name not in scores:
            values = {f"layer{at + 1}": int(name[at]) for at in range(LAYERS)}
            network = extractor.candidate(supernet.space.architecture(values)).calibrated
            scores[name] = accuracy(network, dataset, "search").top1
            if not len(scores) % 10:
                atomic_write(file, json.dumps({"weights": digest, "scores": scores}))
    atomic_write(file, json.dumps({"weights": digest, "scores": scores}))
    return {name: scores[name] for name in names[: arguments.networks]}


def report(scores: Mapping[str, float]) -> str:
    """Tau with its interval over networks, and the regrets."""
    rows, known, macs = table()
    at = [rows[name] for name in scores]
    said, real, size = np.array(list(scores.values())), known[at], macs[at]
    generator = np.random.default_rng(0)
    draws = (generator.integers(len(at), size=len(at)) for _ in range(1000))
    taus = [stats.kendalltau(said[draw], real[draw]).statistic for draw in draws]
    low, high = np.quantile(taus, [0.025, 0.975])
    best = np.argsort(-said, kind="stable")
    regrets: Sequence[float] = [real.max() - real[best[:count]].max() for count in (1, 5, 10)]
    return (
        f"{len(at)} networks: tau {stats.kendalltau(said, real).statistic:.3f} [{low:.3f}, {high:.3f}], "
        f"multiply-adds alone {stats.kendalltau(size, real).statistic:.3f}; regret of the best, the best of "
        f"five and of ten: {regrets[0]:.2f}, {regrets[1]:.2f}, {regrets[2]:.2f} points; scores from "
        f"{100 * said.min():.1f} to {100 * said.max():.1f}%"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the checkpoint and the scores, one for each recipe")
    parser.add_argument("--recipe", choices=list(RECIPES), default="plain")
    parser.add_argument("--sharing", choices=("separate", "sliced"), default="separate")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--side", type=int, default=32, help="pixels that images are brought to")
    parser.add_argument("--train-images", type=int, default=None)
    parser.add_argument("--search-images", type=int, default=5000)
    parser.add_argument("--calibration-images", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    data = DataSettings(
        source="cifar10", search_images=arguments.search_images, train_images=arguments.train_images
    )
    settings = TrainSettings(
        epochs=arguments.epochs,
        batch=arguments.batch,
        lr=arguments.lr,
        seed=arguments.seed,
        calibration_images=arguments.calibration_images,
        algorithms=RECIPES[arguments.recipe],
    )
    dataset = load_data(data)
    supernet = trained(arguments, dataset, settings)
    print(report(scored(arguments, supernet, dataset, settings)))


if __name__ == "__main__":
    main()
