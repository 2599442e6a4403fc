"""Which crew a search gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from dynnas.errors import StudyError
from dynnas.progress import Progress
from dynnas.search.crew.crew import Crew
from dynnas.search.crew.processes import Processes
from dynnas.search.crew.whole import shared
from dynnas.search.evaluator import AnyEvaluator
from dynnas.search.goal import Goal


@contextmanager
def open_crew(
    evaluator: AnyEvaluator, goal: Goal, *, workers: int = 1, progress: Progress | None = None
) -> Iterator[Crew | None]:
    """The crew for the evaluator's jobs, for as long as the context lasts; None if the driver does them.

    Args:
        evaluator: whose jobs.
        goal: up to whose limits an evaluator that knows no jobs is asked.
        workers: processes beside the driver, if more than 1.
        progress: is told of workers that were lost.

    Raises:
        StudyError: fewer than one worker, or an evaluator that cannot be sent to one.
    """
    if workers < 1:
        raise StudyError(f"workers: found {workers}; at least 1 is needed")
    if workers == 1:
        yield None
        return
    with closing(Processes(shared(evaluator, goal).hand, workers, progress or Progress())) as crew:
        yield crew
