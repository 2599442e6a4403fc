"""An Optuna sampler that proposes whole architectures of a conditional space, and none of them twice."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from dynnas.errors import ExhaustedError, StudyError
from dynnas.samplers.lock import OwnLock
from dynnas.samplers.trials import MOVE, Unread, key_of
from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.moves import enumerate_all, mutate, sample
from dynnas.space.space import Space

_MUTATIONS = 50


class Proposal(NamedTuple):
    """An architecture to evaluate, with a note on how it was made."""

    architecture: Architecture
    move: str = ""


class Proposer(Protocol):
    """A function that proposes architectures."""

    def __call__(
        self, study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Return what to evaluate next, the best first.

        Architectures that the study has seen are passed over.
        """
        ...


Stand = Literal["ready", "waiting", "ended"]


@runtime_checkable
class SteppingProposer(Proposer, Protocol):
    """A proposer whose proposals depend on all results before them, and come to an end."""

    def stand(self, study: optuna.Study) -> Stand:
        """Return the status: something to propose, something after running evaluations, or nothing more."""
        ...


def distribution_of(gene: Gene) -> BaseDistribution:
    """Return the Optuna parameter of a gene: its values, as a range if they are evenly spaced integers."""
    numbers = [value for value in gene.values if isinstance(value, int)]
    if gene.ordered and len(numbers) == len(gene.values):
        steps = {b - a for a, b in itertools.pairwise(numbers)}
        if len(steps) == 1:
            return IntDistribution(numbers[0], numbers[-1], step=steps.pop())
    return CategoricalDistribution(gene.labels)


def suggest(trial: optuna.Trial, space: Space) -> Architecture:
    """Ask `trial` for the value of every active gene that leaves a choice; Optuna sees no others.

    How the architecture was made is written before its first value, so that no crash loses it.
    """
    sampler = trial.study.sampler
    if isinstance(sampler, ArchitectureSampler) and space.choices and not trial.params:
        move = trial.relative_params and sampler.move(trial.number)
        if move:
            trial.set_user_attr(MOVE, move)

    def value_of(gene: Gene) -> Value:
        distribution = distribution_of(gene)
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(gene.name, distribution.low, distribution.high, step=distribution.step)
        return trial.suggest_categorical(gene.name, gene.labels)

    return assemble(space, value_of)


class ArchitectureSampler(BaseSampler):
    """Proposes, for every trial, an architecture that the study has not seen.

    It begins with those of `first`, and goes on with what `proposer` says. With `listed`, what is not among
    these is passed over. In a study that is not driven by
    dynnas, ask for the parameters with `suggest`, or by the genes' names and values.

    Hooks of a trial are handed on to `inner`, the sampler object that the proposer draws from, if any.
    Several threads may ask at once.
    All randomness follows from the seed and the number of architectures proposed so far. A search that was
    interrupted therefore goes on exactly as it would have gone.
    """

    def __init__(
        self,
        space: Space,
        proposer: Proposer,
        seed: int,
        first: Sequence[Architecture] = (),
        listed: Sequence[Architecture] | None = None,
        inner: BaseSampler | None = None,
    ) -> None:
        self._inner = inner
        self._listed = {architecture.key: architecture for architecture in listed} if listed else None
        self._space = space
        self._proposer = proposer
        self._seed = seed
        self._first = [one for one in first if self._listed is None or one.key in self._listed]
        self._unread = Unread()
        self._keys: set[str] = set()
        self._moves: dict[int, str] = {}
        self._handed: dict[int, str] = {}  # keys by trial, until the trial has its values
        self._lock = OwnLock()
        self._distributions = {gene.name: distribution_of(gene) for gene in space.choices}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return every gene with a choice, active or not."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for all active genes of a new architecture.

        Raises:
            ExhaustedError: the study has seen every architecture of the space.
        """
        with self._lock:
            new = self._propose(study, trial)
            self._handed[trial.number] = new.architecture.key
            if new.move:
                self._moves[trial.number] = new.move
        return {
            gene.name: gene.labels[gene.values.index(new.architecture[gene.name])]
            for gene in self._space.choices
            if gene.name in new.architecture
        }

    def _propose(self, study: optuna.Study, trial: FrozenTrial) -> Proposal:
        taken = self._taken(study)
        drawn = random.Random(f"{self._seed}/{len(taken)}")
        first = (Proposal(one) for one in self._first if one.key not in taken)
        proposed = self._proposer(study, trial, np.random.default_rng(drawn.getrandbits(64)))
        proposals = itertools.chain(first, proposed, self._anything(drawn))
        new = next((proposal for proposal in proposals if self._is_new(proposal, taken)), None)
        if new is None:
            size = self._space.size if self._listed is None else len(self._listed)
            raise ExhaustedError(f"space {self._space.name!r}: all {size} architectures have been proposed")
        return new

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell the sampler that the proposer draws from, if it was given, that a trial begins."""
        if self._inner is not None:
            self._inner.before_trial(study, trial)

    def move(self, number: int) -> str:
        """Return the note on how the architecture of an unfinished trial was made.

        It is empty where there is none.
        """
        return self._moves.get(number, "")

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget the trial, and tell the sampler that the proposer draws from, if it was given."""
        if self._inner is not None:
            self._inner.after_trial(study, trial, state, values)
        with self._lock:
            self._moves.pop(trial.number, None)
            self._handed.pop(trial.number, None)

    def release(self) -> None:
        """Forget what was handed to trials that have not told the study their values."""
        with self._lock:
            self._handed.clear()

    def stand(self, study: optuna.Study) -> Stand:
        """Return whether the proposer has something to propose now; most always have."""
        return self._proposer.stand(study) if isinstance(self._proposer, SteppingProposer) else "ready"

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value for a parameter that is no gene.

        Active genes have theirs from `sample_relative`.

        Raises:
            StudyError: the parameter is a gene, and not active.
        """
        if any(gene.name == param_name for gene in self._space.genes):
            raise StudyError(f"{param_name!r} is not an active gene of the space {self._space.name!r}")
        seed = random.Random(f"{self._seed}/{trial.number}/{param_name}").getrandbits(32)
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def _is_new(self, proposal: Proposal, taken: set[str]) -> bool:
        key = proposal.architecture.key
        return key not in taken and (self._listed is None or key in self._listed)

    def _taken(self, study: optuna.Study) -> set[str]:
        """Return the keys of all architectures that any trial was about, in whatever state."""
        other, finished, rest = self._unread.next(study)
        if other:
            self._keys.clear()
            self._handed.clear()
        self._keys.update(key for trial in finished if (key := key_of(trial, self._space)))
        # A trial that asks for its parameters, or was interrupted as it asked, has no key.
        keys = {trial.number: key for trial in rest if (key := key_of(trial, self._space))}
        for number in (*keys, *(trial.number for trial in (*finished, *rest) if trial.state.is_finished())):
            self._handed.pop(number, None)
        return self._keys.union(keys.values(), self._handed.values())

    def _anything(self, rng: random.Random) -> Iterator[Proposal]:
        """Yield random architectures, for when the proposer has nothing new."""
        if self._listed is not None:
            yield from map(Proposal, rng.sample(tuple(self._listed.values()), len(self._listed)))
            return
        architecture = sample(self._space, rng)
        for _ in range(_MUTATIONS):
            yield Proposal(architecture)
            architecture = mutate(self._space, architecture, rng)
        # Nearly everything is taken: of the first n + 1 architectures one is new, where n are taken.
        yield from map(Proposal, enumerate_all(self._space))


def assemble(space: Space, value_of: Callable[[Gene], Value]) -> Architecture:
    """Return the architecture in which every active choice has the value that `value_of` gives."""
    values: dict[str, Value] = {}
    for gene in space.genes:
        if space.is_active(gene, values):
            value = gene.values[0] if gene.fixed else value_of(gene)
            at = gene.find(value)
            values[gene.name] = value if at is None else gene.values[at]
    return space.architecture(values)
