"""By what an exit best tells that it is right: measures of sureness on what finished exits say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from results import BUDGETS, Result, spread
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from dynnas.metrics.budgeted import Judged, budget_curve
from dynnas.nn.exits.exits import sureness

Said = Mapping[str, Sequence[Tensor]]
"""Of the splits `search` and `test`: logits (N, classes) of every exit, then of the head."""


@dataclass(frozen=True)
class Criterion:
    """A measure of sureness; tuples are over the seeds.

    Attributes:
        auroc: of every exit, how well it tells right answers from wrong ones on the test images.
        accuracy: at each of `BUDGETS`, on the test images [%]; None where a curve does not reach.
    """

    name: str
    auroc: tuple[tuple[float, ...], ...]
    accuracy: tuple[tuple[float, ...] | None, ...]


def three(logits: Tensor) -> Tensor:
    """It, its lead over the second, and the entropy: what the gate of `learned` reads, (N, 3)."""
    first, second = logits.softmax(1).topk(2, dim=1).values.split(1, dim=1)
    return torch.cat([first, first - second, 1 - sureness(logits, "entropy")[:, None]], dim=1)


def thirteen(logits: Tensor) -> Tensor:
    """These and all probabilities, (N, 3 + classes)."""
    return torch.cat([three(logits), logits.softmax(1)], dim=1)


FITTED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "largest softmax, its lead, entropy (the gate of `learned`)": three,
    "these and all ten probabilities": thirteen,
}
GIVEN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "largest softmax (`confidence`)": sureness,
    "1 - normalised entropy (`entropy`)": lambda logits: sureness(logits, "entropy"),
}


def compare_criteria(
    seeds: Sequence[tuple[Said, Mapping[str, Tensor]]], exit_macs: Sequence[int]
) -> tuple[Criterion, ...]:
    """Every measure; those that are fitted, on every other search image; thresholds on the rest.

    Args:
        seeds: for each, what the exits say, and the labels of both splits.
        exit_macs: multiply-adds of leaving at each exit, then at the head.
    """
    found = []
    for name in (*GIVEN, *FITTED):
        aurocs, curves = [], []
        for said, labels in seeds:
            search, test = (_judged(name, said, labels, split) for split in ("search", "test"))
            aurocs.append(tuple(map(_auroc, test.sure, test.right)))
            curves.append(budget_curve(search, test, exit_macs))
        result = Result(name, tuple(exit_macs), (), (), tuple(curves))
        found.append(Criterion(name, tuple(aurocs), tuple(result.at(macs) for macs in BUDGETS)))
    return tuple(found)


def _judged(name: str, said: Said, labels: Mapping[str, Tensor], split: str) -> Judged:
    """What the measure says of a split; of the search images, of those that nothing was fitted on."""
    sure = []
    for fitted_on, logits in zip(said["search"][:-1], said[split][:-1], strict=True):
        if name in GIVEN:
            sure.append(GIVEN[name](logits))
            continue
        features = FITTED[name]
        right = fitted_on.argmax(1) == labels["search"]
        model = LogisticRegression(max_iter=1000).fit(features(fitted_on)[::2].numpy(), right[::2].numpy())
        sure.append(torch.from_numpy(model.predict_proba(features(logits).numpy())[:, 1]))
    right = torch.stack([logits.argmax(1) == labels[split] for logits in said[split]])
    judged = Judged(torch.stack(sure).double(), right)
    return Judged(judged.sure[:, 1::2], judged.right[:, 1::2]) if split == "search" else judged


def _auroc(sure: Tensor, right: Tensor) -> float:
    return float(roc_auc_score(right.numpy(), sure.numpy()))


def criteria_table(criteria: Sequence[Criterion]) -> str:
    """In Markdown: means over the seeds, accuracies with their standard deviations."""
    budgets = " | ".join(f"{macs / 1e6:g} MMACs" for macs in BUDGETS)
    lines = [f"| sureness | AUROC of each exit | {budgets} |", "|" + " --- |" * (len(BUDGETS) + 2)]
    for criterion in criteria:
        by_exit = (sum(values) / len(values) for values in zip(*criterion.auroc, strict=True))
        aurocs = ", ".join(f"{value:.3f}".removeprefix("0") for value in by_exit)
        cells = " | ".join(spread(accuracy) for accuracy in criterion.accuracy)
        lines.append(f"| {criterion.name} | {aurocs} | {cells} |")
    return "\n".join(lines)
