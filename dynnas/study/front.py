"""The front of a study with the study behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dynnas.pareto.front import Front
from dynnas.study.study import Study


@dataclass(frozen=True)
class StudyFront(Front):
    """A front whose members are networks: `front.study.load("knee")` is one of them.

    Attributes:
        study: which found them.
    """

    study: Study = field(compare=False)
