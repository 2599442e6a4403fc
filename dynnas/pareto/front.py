"""Candidates and the Pareto front among them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import moocore
import numpy as np

from dynnas.documents import Document
from dynnas.errors import StudyError
from dynnas.pareto.noise import (
    AGREEMENT,
    ARTIFACT_GAP,
    GAIN,
    GAIN_HIGH,
    GAIN_LOW,
    beats_cheaper,
    half_width,
)
from dynnas.pareto.objectives import Objective, objectives_of
from dynnas.settings.metrics import METRICS
from dynnas.space.architecture import Architecture

DOCUMENT = Document("dynnas_front", 1, "search again to write it")

LIMIT = re.compile(r"([A-Za-z_.]\w*(?:@\w+)?)\s*(<=|>=)\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)")
"""A limit by which a member is picked."""

# How `Front.to_json` groups metrics; others of `METRICS` stand by themselves, unknown ones under "metrics".
_PLACES = {
    "accuracy": ("accuracy", "search"),
    "accuracy_low": ("accuracy", "search_low"),
    "accuracy_high": ("accuracy", "search_high"),
    "test_accuracy": ("accuracy", "test"),
    "test_accuracy_low": ("accuracy", "test_low"),
    "test_accuracy_high": ("accuracy", "test_high"),
    GAIN: ("test_gain", "mean"),
    GAIN_LOW: ("test_gain", "low"),
    GAIN_HIGH: ("test_gain", "high"),
    AGREEMENT: ("artifact", "agreement"),
    ARTIFACT_GAP: ("artifact", "gap"),
    "latency_ms": ("latency_ms", "ranked"),
    "mean_ms": ("latency_ms", "mean"),
    "median_ms": ("latency_ms", "median"),
    "p95_ms": ("latency_ms", "p95"),
    "worst_ms": ("latency_ms", "worst"),
    "predicted_ms": ("latency_ms", "predicted"),
}
_METRIC_AT = {place: name for name, place in _PLACES.items()}


@dataclass(frozen=True)
class ScoredArchitecture:
    """An evaluated architecture: its metrics by name, and the trial that found it (None for controls)."""

    architecture: Architecture
    metrics: Mapping[str, float]
    trial: int | None = None

    @property
    def key(self) -> str:
        """The architecture's key."""
        return self.architecture.key


@dataclass(frozen=True)
class Front(Sequence[ScoredArchitecture]):
    """The candidates that no other one dominates, the cheapest first.

    Build one with `Front.of`.
    """

    members: tuple[ScoredArchitecture, ...]
    objectives: tuple[Objective, ...]

    @staticmethod
    def of(candidates: Iterable[ScoredArchitecture], objectives: tuple[Objective, ...]) -> Front:
        """Return the Pareto set of `candidates`; of several with equal objectives the first is kept."""
        pool = list(candidates)
        if not pool:
            return Front((), objectives)
        losses = _losses(pool, objectives)
        kept = moocore.is_nondominated(losses)
        # The last objective is the cost in (accuracy, latency_ms); the others settle ties.
        order = np.lexsort(losses.T)
        return Front(tuple(pool[index] for index in order if kept[index]), objectives)

    def __str__(self) -> str:
        """Return the members, one a line: what they reach in each objective, and their choices.

        A finished front says how exact scores are, and marks members that are no better than the one above
        as far as the test images tell.
        """
        lines = self._lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        told = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([self._title, *told])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the members as a table, as `str` has them."""
        head, *rows = (
            "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in line)
            for line, cell in zip(self._lines(), chain(["th"], repeat("td")), strict=False)
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        caption = f"<caption>{self._title}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def _title(self) -> str:
        count = len(self.members)
        return f"{count} network{'s' if count != 1 else ''}, cheapest first"

    def _lines(self) -> list[tuple[str, ...]]:
        """Return the names of the columns, and a line for each member."""
        names = [objective.name for objective in self.objectives]
        lines = [("", *names, "architecture")]
        for number, member in enumerate(self.members):
            reached = (_with_noise(member.metrics, name) for name in names)
            choices = " ".join(f"{name}={value}" for name, value in member.architecture.items())
            mark = " ≈" if beats_cheaper(member.metrics) is False else ""
            lines.append((f"{number}{mark}", *reached, choices))
        return lines

    def __getitem__(self, index: Any) -> Any:
        return self.members[index]

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[ScoredArchitecture]:
        return iter(self.members)

    def pick(self, which: str) -> ScoredArchitecture:
        """Return one member by name.

        Args:
            which: `knee` (nearest to the best of all, objectives scaled to the front), `fastest` (best in
                the first minimised objective), `most-accurate` (best in the first maximised one), a limit
                (`latency_ms<=5`: the most accurate of those that keep it; `accuracy>=0.9`: the fastest), or a
                key or the start of one.

        Raises:
            StudyError: the front is empty, or has no such member.
        """
        if not self.members:
            raise StudyError(
                "the front is empty: no candidate was feasible; run more trials or loosen the limits"
            )
        if which == "knee":
            losses = _losses(self.members, self.objectives)
            span = np.ptp(losses, axis=0)
            scaled = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0)
            return self.members[int(np.argmin(np.linalg.norm(scaled, axis=1)))]
        if which in ("fastest", "most-accurate"):
            return self._best("minimize" if which == "fastest" else "maximize", which)
        if limit := LIMIT.fullmatch(which):
            return self._within(*limit.groups())
        found = [member for member in self.members if member.key.startswith(which)]
        if len(found) != 1:
            keys = ", ".join(member.key for member in self.members)
            raise StudyError(
                f"front: {len(found) or 'no'} members have the key {which!r}; "
                f"allowed are knee, fastest, most-accurate, a limit as latency_ms<=5, and {keys}"
            )
        return found[0]

    def alike(self, member: ScoredArchitecture) -> tuple[ScoredArchitecture, ...]:
        """Return the neighbours that cannot be told from `member` by their answers to the test images."""
        at = self.members.index(member)
        cheaper = self.members[at - 1 : at] if beats_cheaper(member.metrics) is False else ()
        dearer = [each for each in self.members[at + 1 : at + 2] if beats_cheaper(each.metrics) is False]
        return (*cheaper, *dearer)

    def picks(self, names: Sequence[str]) -> tuple[ScoredArchitecture, ...]:
        """Return several members, each once, by names as `pick` takes them; `front` is all of them.

        Raises:
            StudyError: as `pick`.
        """
        chosen: dict[str, ScoredArchitecture] = {}
        for name in names:
            # An empty front is refused by `pick`.
            members = self.members if name == "front" and self.members else (self.pick(name),)
            chosen.update((member.key, member) for member in members)
        return tuple(chosen.values())

    def _within(self, metric: str, sign: str, limit: str) -> ScoredArchitecture:
        kept = [
            member
            for member in self.members
            if metric in member.metrics
            and (
                member.metrics[metric] <= float(limit)
                if sign == "<="
                else member.metrics[metric] >= float(limit)
            )
        ]
        if not kept:
            values = sorted(member.metrics[metric] for member in self.members if metric in member.metrics)
            has = f"theirs are {values[0]:.4g} to {values[-1]:.4g}" if values else "they do not have it"
            raise StudyError(f"front: no member has {metric}{sign}{limit}; {has}")
        return Front(tuple(kept), self.objectives).pick("most-accurate" if sign == "<=" else "fastest")

    def _best(self, direction: str, which: str) -> ScoredArchitecture:
        for objective in self.objectives:
            if objective.direction == direction:
                return min(self.members, key=lambda member: objective.sign * member.metrics[objective.name])
        names = ", ".join(objective.name for objective in self.objectives)
        raise StudyError(
            f"front: no {which} member, for none of its objectives ({names}) is {direction}d; pick knee"
        )

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """Return the volume between the front and `reference`, in the product of the objectives' units.

        Args:
            reference: a bad value of every objective, as by `reference_point`; members beyond it count
                nothing.
        """
        if not self.members:
            return 0.0
        point = [objective.sign * reference[objective.name] for objective in self.objectives]
        return float(moocore.hypervolume(_losses(self.members, self.objectives), ref=point))

    def to_json(self) -> str:
        """Return a document that `from_json` reads back.

        It has key, trial, architecture and metrics of every member.
        """
        return DOCUMENT.write(
            {
                "objectives": {objective.name: objective.direction for objective in self.objectives},
                "members": [scored_to_json(member) for member in self.members],
            }
        )

    @staticmethod
    def load(path: Path) -> Front:
        """Read a file with what `to_json` wrote.

        Raises:
            StudyError: not such a document, or of another format.
        """
        return DOCUMENT.load(path, _front)

    @staticmethod
    def from_json(text: str, where: Path | str = "front") -> Front:
        """Read what `to_json` wrote; `where` is for messages.

        Raises:
            StudyError: not such a document, or of another format.
        """
        return DOCUMENT.read(text, where, _front)


def _front(document: Mapping[str, Any]) -> Front:
    members = tuple(scored_from_json(member) for member in document["members"])
    return Front(members, objectives_of(document["objectives"]))


_MARGIN = 0.1


def reference_point(fronts: Iterable[Front]) -> dict[str, float]:
    """Return the reference for comparing the hypervolumes of `fronts`, which have the same objectives.

    It lies a tenth of the range of every objective beyond the worst value of their members, so that the ends
    of a front count. A network that stands on no front, however slow, moves nothing. An objective without a
    range is taken a tenth of its value further.

    Raises:
        ValueError: no front has a member.
    """
    known = [front for front in fronts if front.members]
    if not known:
        raise ValueError("a reference needs a front that has members")
    objectives = known[0].objectives
    losses = _losses([member for front in known for member in front], objectives)
    worst, span = losses.max(axis=0), np.ptp(losses, axis=0)
    beyond = worst + _MARGIN * np.where(span > 0, span, np.abs(worst))
    return {
        objective.name: float(objective.sign * loss)
        for objective, loss in zip(objectives, beyond, strict=True)
    }


def _with_noise(metrics: Mapping[str, float], name: str) -> str:
    noise = half_width(metrics, name)
    return f"{metrics[name]:.4g}" + ("" if noise is None else f" ± {noise:.2g}")


def _losses(candidates: Sequence[ScoredArchitecture], objectives: tuple[Objective, ...]) -> np.ndarray:
    """Return the losses [candidates, objectives], all to be minimised."""
    rows = [
        [objective.sign * candidate.metrics[objective.name] for objective in objectives]
        for candidate in candidates
    ]
    return np.array(rows, dtype=float)


def scored_to_json(member: ScoredArchitecture) -> dict[str, Any]:
    """Return key, trial, architecture and metrics of one candidate, the metrics grouped."""
    document: dict[str, Any] = {
        "key": member.key,
        "trial": member.trial,
        "architecture": json.loads(member.architecture.to_json()),
    }
    for name, value in member.metrics.items():
        if name in METRICS and name not in _PLACES:
            document[name] = value
        else:
            group, entry = _PLACES.get(name, ("metrics", name))
            document.setdefault(group, {})[entry] = value
    return document


def scored_from_json(document: Mapping[str, Any]) -> ScoredArchitecture:
    """Read what `scored_to_json` made; an exception of any kind means that it did not."""
    metrics = {name: float(document[name]) for name in METRICS.keys() - _PLACES.keys() if name in document}
    for group in {"metrics", *(group for group, _ in _PLACES.values())}:
        for entry, value in document.get(group, {}).items():
            metrics[_METRIC_AT.get((group, entry), entry)] = float(value)
    architecture = Architecture.from_json(json.dumps(document["architecture"]))
    return ScoredArchitecture(architecture, metrics, document["trial"])
