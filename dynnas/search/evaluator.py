"""The contract of an evaluator."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dynnas.errors import StudyError, UnavailableError
from dynnas.pareto.objectives import Goal, Verdict
from dynnas.samplers.model.cheap_metrics import Cheap
from dynnas.search.workers.pool import Job, JobResult, Worker
from dynnas.space.architecture import Architecture


class Evaluator(Protocol):
    """Anything that scores an architecture: a trained supernet, a table of results, your own code."""

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        """Return all metrics of one architecture by name."""
        ...


@runtime_checkable
class StagedEvaluator(Protocol):
    """An evaluator whose cheap metrics come first, so that limits can spare a candidate the costly ones."""

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        """Return the metrics in several parts, cheapest first; nothing is computed before it is asked for."""
        ...


AnyEvaluator = Evaluator | StagedEvaluator

Steps = Generator[Mapping[str, float] | Job, JobResult | None, None]
"""A generator of an evaluation: it yields stages of metrics, and jobs, whose results are sent in."""


@runtime_checkable
class SplitEvaluator(StagedEvaluator, Protocol):
    """A staged evaluator that leaves parts of its stages to workers; the rest is the driver's."""

    def steps(self, architecture: Architecture) -> Steps:
        """Return the same stages in the same order, and between them the jobs that they need."""
        ...

    @property
    def worker(self) -> Worker:
        """Return the object that does these jobs."""
        ...


def run_here(steps: Steps, worker: Worker) -> Iterator[Mapping[str, float]]:
    """Yield the stages of `steps`, and do every job at once.

    Raises:
        Exception: what the worker raises.
    """
    reply: JobResult | None = None
    while (step := next_step(steps, reply)) is not None:
        reply = None
        if isinstance(step, Job):
            reply = JobResult(0, worker.run(step))
        else:
            yield step


@runtime_checkable
class CheapEvaluator(Protocol):
    """An evaluator that knows some metrics without an evaluation, so that a sampler need not learn them."""

    def cheap(self, architecture: Architecture) -> Mapping[str, float] | None:
        """Return cheap metrics, as `Cheap` says."""
        ...


def cheap_of(evaluator: AnyEvaluator, goal: Goal | None = None) -> Cheap | None:
    """Return the evaluator's function for cheap metrics, if it has one.

    None as well where the evaluator names its `cheap_metrics`, and the goal speaks of none of them.
    """
    names = getattr(evaluator, "cheap_metrics", None)
    if goal is not None and names is not None and not {*names} & {*goal.metrics}:
        return None
    return evaluator.cheap if isinstance(evaluator, CheapEvaluator) and callable(evaluator.cheap) else None


@runtime_checkable
class ListedEvaluator(Protocol):
    """An evaluator that can evaluate only a small part of its space, and knows which."""

    def listed(self) -> Sequence[Architecture] | None:
        """Return the architectures that it can evaluate.

        It is None where most can be, so that no list is needed.
        """
        ...


def listed_of(evaluator: AnyEvaluator) -> Sequence[Architecture] | None:
    """Return the few architectures that the evaluator can evaluate, if there are only a few."""
    return evaluator.listed() if isinstance(evaluator, ListedEvaluator) else None


@dataclass(frozen=True)
class Assessment:
    """The result of an evaluation: metrics, and the reason if it stopped before the end.

    Attributes:
        rejection: the limits that the metrics break.
        screened: why, by prediction, the candidate was not worth measuring.
    """

    metrics: Mapping[str, float]
    rejection: str | None = None
    screened: str | None = None


Assessing = Generator[Job, JobResult, Assessment]
"""A generator of an assessment: it yields the jobs that it needs, whose results are sent in."""


def assess(
    evaluator: AnyEvaluator, architecture: Architecture, goal: Goal, hopeless: Verdict | None = None
) -> Assessment:
    """Evaluate `architecture` here, as `assessing` does.

    Raises:
        StudyError: a metric is not a number, or one that the goal needs is missing.
        Exception: whatever the evaluator raises.
    """
    course = assessing(stages_of(evaluator, architecture), goal, hopeless)
    try:
        next(course)
    except StopIteration as end:
        found: Assessment = end.value
        return found
    raise AssertionError("stages have no jobs")


def assessing(
    steps: Iterator[Mapping[str, float]] | Steps, goal: Goal, hopeless: Verdict | None = None
) -> Assessing:
    """Evaluate stage by stage for as long as the metrics keep the limits of `goal`.

    Args:
        steps: the stages, or the steps to them.
        goal: objectives and limits.
        hopeless: says of the metrics so far why more are not worth their while, or None.

    Raises:
        StudyError: a metric is not a number, or one that the goal needs is missing.
        Exception: whatever the evaluator raises.
    """
    metrics: dict[str, float] = {}
    reply: JobResult | None = None
    try:
        while (step := next_step(steps, reply)) is not None:
            reply = None
            if isinstance(step, Job):
                reply = yield step
                continue
            metrics.update((name, _number(name, value)) for name, value in step.items())
            rejection = goal.rejection(metrics)
            if rejection:
                return Assessment(metrics, rejection=rejection)
            if hopeless and (screened := hopeless(metrics)):
                return Assessment(metrics, screened=screened)
    except UnavailableError as error:
        return Assessment(metrics, rejection=str(error))
    missing = [name for name in goal.metrics if name not in metrics]
    if missing:
        raise StudyError(
            f"the evaluator gave {', '.join(metrics) or 'nothing'}, but not {', '.join(missing)}"
        )
    return Assessment(metrics)


def next_step(
    steps: Iterator[Mapping[str, float]] | Steps, reply: JobResult | None
) -> Mapping[str, float] | Job | None:
    """Return the next step, with `reply` to the one before if that was a job; None after the last."""
    try:
        return steps.send(reply) if isinstance(steps, Generator) else next(steps)
    except StopIteration:
        return None


def stages_of(evaluator: AnyEvaluator, architecture: Architecture) -> Iterator[dict[str, float]]:
    """Yield the metrics of `architecture` stage by stage, whichever way the evaluator gives them.

    Raises:
        StudyError: a metric is not a number.
    """
    if isinstance(evaluator, StagedEvaluator):
        stages = evaluator.stages(architecture)
    else:
        stages = iter((evaluator.evaluate(architecture),))
    for stage in stages:
        yield {name: _number(name, value) for name, value in stage.items()}


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise StudyError(f"metric {name!r} is {value!r}; a number is needed")
    # Counts (MACs, parameters) stay whole numbers, which read better in the dashboard and in JSON.
    return value if isinstance(value, int) else number
