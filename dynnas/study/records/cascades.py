"""Cascades of a front's networks: `cascades.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dynnas.documents import Document
from dynnas.errors import StudyError

DOCUMENT = Document("dynnas_cascades", 2, "delete it, and run dynnas cascade again")

PICK = "cascade:"
"""Prefix by which a cascade is picked, with a number or the start of a key."""


@dataclass(frozen=True)
class Cascaded:
    """A chain of networks: an image goes to the next one until one is confident.

    Attributes:
        networks: keys, in the order in which they run.
        weights: of each: `inherited`, or the name of a training.
        thresholds: confidences, as the task says them, from which on an image leaves, of all but the last.
        shares: of the search images that each network answers.
        shape: in which all of them answer, without the batch.
        metrics: by name. The task's scores, `latency_ms` and `expected_macs` are computed on the search split
            from what the networks say and cost, `test_` and a score on the test split, `macs` and `params`
            are of all networks. By the clock are `mean_ms`, `median_ms`, `p95_ms` and `worst_ms`, over
            images, and `joint_ms`, which is `latency_ms` again by its networks timed in the same rounds.
    """

    networks: tuple[str, ...]
    weights: tuple[str, ...]
    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    shape: tuple[int, ...]
    metrics: Mapping[str, float]

    @property
    def key(self) -> str:
        """A key that is equal exactly when networks, weights and thresholds are."""
        named = json.dumps([self.networks, self.weights, self.thresholds])
        return hashlib.sha256(named.encode()).hexdigest()[:12]

    @property
    def measured(self) -> bool:
        """Tell whether the cascade was timed."""
        return "mean_ms" in self.metrics


@dataclass(frozen=True)
class Cascades(Sequence[Cascaded]):
    """The cascades that join a front, the cheapest first.

    Attributes:
        members: themselves.
        score: the metric by which they were chosen.
        by: the cost by which they were chosen, beside the score: `latency_ms` or `macs`.
        front: keys of the front that they were made of.
        made_of: digest of all that they were computed from.
        overhead: milliseconds that chains take beside their networks, the fastest network first; see
            `dynnas.latency.cascades.Overhead`.
        reference: a score, negative where it is minimised, and a cost, which bound the hypervolumes.
        hypervolumes: in the product of the units, of the `front` alone and of the front `with cascades`.
    """

    members: tuple[Cascaded, ...] = ()
    score: str = "accuracy"
    by: str = "latency_ms"
    front: tuple[str, ...] = ()
    made_of: str = ""
    overhead: Mapping[str, Sequence[float]] | None = None
    reference: tuple[float, float] = (0.0, 0.0)
    hypervolumes: Mapping[str, float] | None = None

    def __getitem__(self, index: Any) -> Any:
        return self.members[index]

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Cascaded]:
        return iter(self.members)

    @property
    def gain(self) -> float:
        """The hypervolume that they add, as a part of the front's."""
        found = self.hypervolumes or {}
        return found["with cascades"] / found["front"] - 1 if found.get("front") else 0.0

    def pick(self, which: str) -> Cascaded:
        """Return one by `cascade:N`, its number from 1 on, or `cascade:KEY`, the start of its key.

        Raises:
            StudyError: there is none.
        """
        name = which.removeprefix(PICK)
        if name.isdecimal() and 1 <= int(name) <= len(self.members):
            return self.members[int(name) - 1]
        found = [member for member in self.members if name and member.key.startswith(name)]
        if len(found) != 1:
            if not self.members:
                raise StudyError(f"{which}: the study has no cascades; `dynnas cascade STUDY` makes some")
            keys = ", ".join(f"{PICK}{member.key}" for member in self.members)
            raise StudyError(
                f"{which}: {len(found) or 'no'} cascades have that name; allowed are {PICK}1 to "
                f"{PICK}{len(self.members)}, and {keys}"
            )
        return found[0]

    def to_json(self) -> str:
        """Return a document that `read_cascades` reads back."""
        members = [{"key": member.key, **asdict(member)} for member in self.members]
        return DOCUMENT.write({**asdict(self), "members": members})


def read_cascades(path: Path) -> Cascades:
    """Read what `Cascades.to_json` made; none where there is no file.

    Raises:
        StudyError: not such a document, or of another format.
    """
    if not path.exists():
        return Cascades()
    return DOCUMENT.load(path, _cascades)


def _cascades(document: Mapping[str, Any]) -> Cascades:
    known = {field.name: document[field.name] for field in fields(Cascades)}
    score, cost = known["reference"]
    lists = {"front": tuple(known["front"]), "reference": (float(score), float(cost))}
    return Cascades(**{**known, **lists, "members": tuple(map(_cascaded, known["members"]))})


def _cascaded(document: Mapping[str, Any]) -> Cascaded:
    values = {field.name: document[field.name] for field in fields(Cascaded)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    metrics = {name: float(value) for name, value in values["metrics"].items()}
    return Cascaded(**{**values, **lists, "metrics": metrics})
