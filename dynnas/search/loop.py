"""The loop of a search: ask for an architecture, evaluate it, tell the study."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import optuna
from optuna.trial import Trial, TrialState

from dynnas.errors import StorageError, StudyError
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal, Verdict
from dynnas.progress import Progress, Task
from dynnas.samplers.architecture import ArchitectureSampler, Stand, suggest
from dynnas.samplers.trials import (
    ARCHITECTURE,
    AVAILABLE,
    ERROR,
    KEY,
    REJECTED,
    RESERVED,
    SCREENED,
    candidates_of,
    finished_keys,
    key_of,
    proposed_keys,
    retry_interrupted,
    retry_rejected,
)
from dynnas.search.evaluator import (
    AnyEvaluator,
    Assessing,
    Assessment,
    SplitEvaluator,
    Steps,
    assessing,
    listed_of,
    stages_of,
)
from dynnas.search.prefilter import Prefilter
from dynnas.search.stopping import StopConditions, StopMonitor
from dynnas.search.storage.retry import Retry
from dynnas.search.workers.pool import JobError, JobResult, WorkerPool
from dynnas.search.workers.unsplit import as_split
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space

logger = logging.getLogger(__name__)

_FAILURES_AT_START = 5
_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True)
class SearchLoop:
    """Runs one study, which must have no other loop; parts of the evaluations may be left to workers."""

    study: optuna.Study
    space: Space
    evaluator: AnyEvaluator
    goal: Goal
    screen: Prefilter | None = None
    pool: WorkerPool | None = None
    retry: Retry = field(default_factory=Retry)

    def candidates(self) -> list[ScoredArchitecture]:
        """Return all candidates of the study within the limits."""
        return candidates_of(self.study, self.space, self.goal)

    def front(self) -> Front:
        """Return the front of all candidates."""
        return Front.of(self.candidates(), self.goal.objectives)

    def run(
        self, trials: int, progress: Progress, name: str = "search", stopping: StopConditions | None = None
    ) -> None:
        """Run until `trials` candidates are finished, counting those of earlier runs, or none is left.

        Or until `stopping` says that it is enough.

        Candidates that an earlier run left behind, or rejected by limits that no longer hold, come first.
        (Samplers judge earlier trials by the limits of their day; fronts go by those of today.)

        Raises:
            StudyError: evaluations keep failing, or no worker can be had.
            StorageError: the database cannot be written.
        """
        self.retry(lambda again: retry_interrupted(self.study, self.space))
        front = self.retry(lambda again: self.front())
        hopeless = self._hopeless(lambda: front)
        self.retry(lambda again: retry_rejected(self.study, self.space, self.goal, hopeless))
        done = self.retry(lambda again: len(finished_keys(self.study, self.space)))
        if foreign := self.retry(lambda again: self._trials_without_architecture()):
            are = "trial of the storage is" if foreign == 1 else "trials of the storage are"
            left = "it is" if foreign == 1 else "they are"
            progress.message(f"{name}: {foreign} {are} about no architecture of the space; {left} left out")
        watch = (stopping or StopConditions()).watch(self.goal, self.candidates(), done)
        with progress.task(name, total=trials, done=min(done, trials)) as task:
            course = _Run(self, front, watch, lambda text: progress.message(f"{name}: {text}"), task)
            try:
                course.go(trials - done)
            except StorageError:
                raise
            except (KeyboardInterrupt, StudyError):
                self.retry(lambda again: retry_interrupted(self.study, self.space, killed=False))
                raise

    def _trials_without_architecture(self) -> int:
        """Return how many finished trials other programs have made for something else."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sum(key_of(trial, self.space) is None for trial in trials)

    def exhausted(self) -> bool:
        """Return whether every architecture that can be tried has had its trial."""
        return self.retry(lambda again: self._exhausted())

    def _exhausted(self) -> bool:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return not waiting and len(proposed_keys(self.study, self.space)) >= self.size

    def stand(self) -> Stand:
        """Return whether the sampler has something to propose, waits for results, or has come to its end."""
        return self.retry(lambda again: self._stand())

    def _stand(self) -> Stand:
        sampler = self.study.sampler
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return (
            sampler.stand(self.study) if isinstance(sampler, ArchitectureSampler) and not waiting else "ready"
        )

    @cached_property
    def size(self) -> int:
        """Return the number of architectures that can be tried."""
        listed = listed_of(self.evaluator)
        return self.space.size if listed is None else len(listed)

    def begin(self, front: Callable[[], Front], running: Container[int] = ()) -> RunningTrial:
        """Ask for the next architecture and prepare its evaluation.

        Args:
            front: gives the front of the moment.
            running: numbers of the trials that are being evaluated.
        """

        def ask(again: bool) -> tuple[Trial, Architecture]:
            if again:  # the server may have gone away in the middle of it
                retry_interrupted(self.study, self.space, killed=False, running=running)
            trial = self.study.ask()
            architecture = suggest(trial, self.space)
            if KEY not in trial.user_attrs:  # one that is tried again has them
                trial.set_user_attr(ARCHITECTURE, dict(architecture))
                trial.set_user_attr(KEY, architecture.key)
            return trial, architecture

        trial, architecture = self.retry(ask)
        if self.pool:
            steps: Iterator[Mapping[str, float]] | Steps = self._split.steps(architecture)
        else:
            steps = stages_of(self.evaluator, architecture)
        return RunningTrial(trial, architecture, assessing(steps, self.goal, self._hopeless(front)))

    @cached_property
    def _split(self) -> SplitEvaluator:
        return as_split(self.evaluator, self.goal)

    def _hopeless(self, front: Callable[[], Front]) -> Verdict | None:
        screen = self.screen
        return (lambda metrics: screen.verdict(metrics, front())) if screen else None

    def failed(self, running: RunningTrial, reason: str) -> None:
        """Tell the study why there is no result."""

        def tell() -> None:
            running.trial.set_user_attr(ERROR, reason)
            self.study.tell(running.trial, state=TrialState.FAIL)

        self._finish(running, TrialState.FAIL, tell)

    def finish(self, running: RunningTrial, found: Assessment) -> ScoredArchitecture | None:
        """Tell the study the result: a candidate, or None where it was rejected."""
        self._finish(running, TrialState.COMPLETE, lambda: self._tell(running.trial, found))
        if found.rejection or found.screened:
            return None
        return ScoredArchitecture(running.architecture, found.metrics, running.trial.number)

    def _finish(self, running: RunningTrial, state: TrialState, tell: Callable[[], None]) -> None:
        """Call `tell`, which ends a trial in `state`.

        It is called again if the server went away before it was done.

        Raises:
            StorageError: another process has ended the trial while the server was away.
        """

        def step(again: bool) -> None:
            if again:
                trial = self.study.get_trials(deepcopy=False)[running.trial.number]
                if trial.state == state:
                    return
                if trial.state != TrialState.RUNNING:
                    raise StorageError(
                        "storage: while the database was away, another process has searched this study; the "
                        "same command continues when that has ended"
                    )
            tell()

        self.retry(step)

    def _tell(self, trial: Trial, found: Assessment) -> None:
        for name, value in found.metrics.items():
            trial.set_user_attr(name, value)
        told = found.metrics
        if found.rejection:
            trial.set_user_attr(REJECTED, found.rejection)
        if self.screen and found.screened:
            trial.set_user_attr(SCREENED, found.screened)
            told = self.screen.stand_in(found.metrics)
        self._set_constraints(trial, told, found.rejection)
        self.study.tell(trial, self._values(told))

    def _set_constraints(self, trial: Trial, metrics: Mapping[str, float], rejection: str | None) -> None:
        violations = self.goal.violations(metrics)
        if rejection and not any(violation > 0 for violation in violations.values()):
            violations[AVAILABLE] = 1.0  # no limit is broken, but samplers must not take it for feasible
        if not violations:
            return
        known = trial.constraints  # some, where the server went away in the middle
        for name, violation in violations.items():
            if name not in known:
                trial.set_constraint(name, violation)
        # The dashboard (0.21) knows only this attribute, which `set_constraint` has replaced.
        study_id = trial.storage.get_study_id_from_name(self.study.study_name)
        trial_id = trial.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        trial.storage.set_trial_system_attr(trial_id, "constraints", list(violations.values()))

    def _values(self, metrics: Mapping[str, float]) -> list[float]:
        """Return the objectives' values.

        Those of a rejected candidate that were not computed are the worst so far.

        Such a trial is complete and infeasible, so that NSGA-II ranks it by its violation; a pruned one would
        teach it nothing. No sampler looks at its values, but the dashboard cannot draw what is not a number.
        """
        values = []
        for at, objective in enumerate(self.goal.objectives):
            if objective.name in metrics:
                values.append(metrics[objective.name])
                continue
            complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            told = [trial.values[at] for trial in complete]
            values.append(max(told, key=lambda value: objective.sign * value, default=0.0))
        return values


@dataclass(frozen=True)
class RunningTrial:
    """A running trial."""

    trial: Trial
    architecture: Architecture
    evaluation: Assessing


class _Run:
    """One run of a search loop: it keeps as many trials running as there are workers."""

    def __init__(
        self, loop: SearchLoop, front: Front, watch: StopMonitor, say: Callable[[str], None], task: Task
    ) -> None:
        self._loop = loop
        self._front = front
        self._watch = watch
        self._say = say
        self._task = task
        self._failures = _Failures()
        self._running: dict[int, RunningTrial] = {}

    def go(self, trials: int) -> None:
        """Run up to `trials` trials, or until there is a reason to end; running trials are finished."""
        pool = self._loop.pool
        # One more than there are workers, so that none waits while the driver asks, tells and times.
        most = pool.size + 1 if pool else 1
        reason = None
        while True:
            while trials > 0 and reason is None and len(self._running) < most:
                stand = self._loop.stand()
                if stand == "waiting" and self._running:
                    break
                reason = "the sampler has reached its end" if stand == "ended" else self._reason()
                if reason is None:
                    trials -= 1
                    self._go_on(self._begin(), None)
            if not self._running:
                break
            assert pool is not None
            reply = pool.collect()
            self._go_on(self._running.pop(reply.job_id), reply)
        if reason:
            self._say(reason)

    def _begin(self) -> RunningTrial:
        running = {running.trial.number for running in self._running.values()}
        return self._loop.begin(lambda: self._front, running)

    def _reason(self) -> str | None:
        if self._loop.exhausted():
            return f"all {self._loop.size} architectures of the space were tried"
        return self._watch.reason()

    def _go_on(self, running: RunningTrial, reply: JobResult | None) -> None:
        """Continue an evaluation up to its next job, or to its end."""
        try:
            job = running.evaluation.send(reply)  # type: ignore[arg-type]  # None begins it
        except StopIteration as end:
            self._land(running, end.value)
        except StorageError:
            raise
        except Exception as error:  # whatever an evaluator does is the candidate's failure, not the search's
            self._fail(running, error)
        else:
            assert self._loop.pool is not None
            self._running[self._loop.pool.submit(job)] = running

    def _land(self, running: RunningTrial, found: Assessment) -> None:
        try:
            _check_names(found.metrics)
        except StudyError as error:
            self._fail(running, error)
            return
        candidate = self._loop.finish(running, found)
        self._failures.reset()
        self._watch.saw(candidate)
        if candidate:
            self._front = Front.of((*self._front, candidate), self._loop.goal.objectives)
        self._task.advance(1, note=_summary(self._front))

    def _fail(self, running: RunningTrial, error: Exception) -> None:
        trial, key = running.trial.number, running.architecture.key
        logger.debug("trial %d (%s) failed", trial, key, exc_info=error)
        said = str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
        reason = said[:1000]
        self._loop.failed(running, reason)
        self._say(f"a candidate failed: {reason}")
        self._failures.count(reason)
        self._watch.saw(None)
        self._task.advance(1, note=_summary(self._front))


class _Failures:
    """Counts consecutive failures: at some point they are not the candidates' fault."""

    def __init__(self) -> None:
        self._in_a_row, self._allowed = 0, _FAILURES_AT_START

    def reset(self) -> None:
        """Start again after a candidate that did not fail."""
        self._in_a_row, self._allowed = 0, _FAILURES_IN_A_ROW

    def count(self, reason: str) -> None:
        """Count one more failed candidate.

        Raises:
            StudyError: they are too many now.
        """
        self._in_a_row += 1
        if self._in_a_row >= self._allowed:
            raise StudyError(
                f"search: {self._in_a_row} candidates in a row failed, the last with {reason}; "
                "mend that, then run the same command again to go on"
            )


def _check_names(metrics: Mapping[str, float]) -> None:
    clash = RESERVED.intersection(metrics)
    if clash:
        raise StudyError(
            f"the evaluator gave a metric called {min(clash)!r}, a name that trials need; rename it"
        )


def _summary(front: Front) -> str:
    """Return the best so far, for the progress bar."""
    if not front:
        return "none feasible yet"
    best = []
    for objective in front.objectives:
        losses = [objective.sign * member.metrics[objective.name] for member in front]
        best.append(f"{objective.name} {objective.sign * min(losses):.4g}")
    return f"front {len(front)}, best {', '.join(best)}"
