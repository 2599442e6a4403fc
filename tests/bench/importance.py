"""Whether channels that matter most are worth keeping: members of a trained network without further training.

    python tests/bench/importance.py [--seeds 5] [--orders 5]

A residual network is trained on scikit-learn's digits (1,200 images, 8 s on one core). Its channels are left
out in the order of `dynnas.elastic`, in their own order, in random orders, and those that matter most first;
batch-norm statistics are computed again. Accuracies are those of the other 597 images.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.trained import Residual, conv

import dynnas as dn
from dynnas.supernet.conversion.groups import Group
from dynnas.supernet.conversion.network import TrainedNetwork

TRAIN, EPOCHS, BATCH = 1200, 10, 64
WIDTHS = (0.75, 0.5)


class Network(nn.Module):
    """Images (B, 1, 8, 8) to logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 32)
        self.stage1 = nn.Sequential(Residual(32, 32), Residual(32, 32))
        self.stage2 = nn.Sequential(Residual(32, 64, 2), Residual(64, 64))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage2(self.stage1(self.stem(x))).mean((2, 3)))


def train(images: Tensor, targets: Tensor, seed: int) -> Network:
    torch.manual_seed(seed)
    network, steps = Network(), -(-TRAIN // BATCH) * EPOCHS
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-3, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN).split(BATCH):
            F.cross_entropy(network(images[batch]), targets[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, targets: Tensor) -> float:
    """Accuracy on what was not trained on, with statistics of what was."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
    network(images[:TRAIN])
    right = network.eval()(images[TRAIN:]).argmax(1) == targets[TRAIN:]
    return float(right.float().mean())


def member(trained: TrainedNetwork, share: float, order: Callable[[Group], np.ndarray]) -> nn.Module:
    listed = tuple(
        replace(choice, what=replace(choice.what, order=order(choice.what)))
        if isinstance(choice.what, Group)
        else choice
        for choice in trained.choices.listed
    )
    ordered = TrainedNetwork(trained.network, replace(trained.choices, listed=listed), trained.report)
    return ordered(
        {each.name: min(each.values, key=lambda v: abs(v - share * each.values[-1])) for each in listed}
    )


def shuffled(rng: np.random.Generator, group: Group) -> np.ndarray:
    return rng.permutation(group.size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--orders", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_digits()
    drawn = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images, dtype=torch.float32)[drawn, None] / 16
    targets = torch.tensor(digits.target)[drawn]
    found: dict[tuple[str, float], list[float]] = {}
    for seed in range(args.seeds):
        network = train(images, targets, seed)
        space = dn.elastic(network, images[:2], depth=1, kernel=False, width=WIDTHS)
        orders: dict[str, list[Callable[[Group], np.ndarray]]] = {
            "by importance": [lambda group: group.order],
            "as they lie": [lambda group: np.arange(group.size)],
            "at random": [partial(shuffled, np.random.default_rng(draw)) for draw in range(args.orders)],
            "least important kept": [lambda group: group.order[::-1]],
        }
        for share in WIDTHS:
            for name, ways in orders.items():
                scores = [accuracy(member(space.model, share, way), images, targets) for way in ways]
                found.setdefault((name, share), []).append(statistics.mean(scores))
    print(
        f"{args.seeds} networks\n\n| order | {' | '.join(f'{share:.0%} of the width' for share in WIDTHS)} |"
    )
    print(f"| --- |{' --- |' * len(WIDTHS)}")
    for name in dict.fromkeys(name for name, _ in found):
        cells = [f"{statistics.mean(found[name, share]):.1%}" for share in WIDTHS]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
