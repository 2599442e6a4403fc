"""Evaluators that do not split their work: a worker does a whole evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dynnas.errors import UnavailableError
from dynnas.pareto.objectives import Goal
from dynnas.search.evaluator import AnyEvaluator, SplitEvaluator, Steps, stages_of
from dynnas.search.workers.pool import Job, Worker
from dynnas.space.architecture import Architecture


def as_split(evaluator: AnyEvaluator, goal: Goal) -> SplitEvaluator:
    """Return the evaluator if its work can be split, else one that leaves whole evaluations to workers."""
    return evaluator if isinstance(evaluator, SplitEvaluator) else UnsplitEvaluator(evaluator, goal)


@dataclass(frozen=True)
class UnsplitEvaluator:
    """Leaves the whole of every evaluation to workers."""

    evaluator: AnyEvaluator
    goal: Goal

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        """Return the stages of the evaluator."""
        return stages_of(self.evaluator, architecture)

    def steps(self, architecture: Architecture) -> Steps:
        """Yield one job, and its result."""
        reply = yield Job("evaluate", architecture)
        assert reply is not None
        stages, unavailable = reply.get()
        yield from stages
        if unavailable is not None:
            raise UnavailableError(unavailable)

    @property
    def worker(self) -> Worker:
        """Return the evaluator, wrapped."""
        return UnsplitWorker(self.evaluator, self.goal)


@dataclass(frozen=True)
class UnsplitWorker:
    """Evaluates stage by stage up to the first limit that is broken."""

    evaluator: AnyEvaluator
    goal: Goal

    def run(self, job: Job) -> Any:
        """Return the stages, and the reason if the architecture cannot be evaluated further."""
        metrics: dict[str, float] = {}
        stages: list[Mapping[str, float]] = []
        try:
            for stage in stages_of(self.evaluator, job.architecture):
                stages.append(stage)
                metrics.update(stage)
                if self.goal.rejection(metrics):
                    break
        except UnavailableError as error:
            return stages, str(error)
        return stages, None
