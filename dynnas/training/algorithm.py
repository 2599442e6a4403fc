"""The contract of an algorithm: a part of a training recipe, which the trainer calls by hooks.

An algorithm is one file in `algorithms/` with one class, registered under its name:

- its settings are the fields of the class, which is a dataclass; space files set them by
  `train: {algorithms: {name: {field: value}}}`;
- it overrides the hooks that it needs. The trainer calls the hooks of all its algorithms in their order, and
  knows none of them by name;
- what it must remember over steps it gives in `state_dict`, which lies in the checkpoint. What follows from
  the step alone is no state.

Random numbers come from torch's generator, which the trainer seeds by (seed, number of the batch) before
each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynnas.errors import TrainingError
from dynnas.nn.context import PLAIN, Context, Trace
from dynnas.nn.exits.exits import Leaving, answer
from dynnas.nn.gates.costs import GateCost
from dynnas.settings.registries import ALGORITHMS
from dynnas.space.architecture import Architecture
from dynnas.tasks.task import Task
from dynnas.training.distributed.ranks import Batch
from dynnas.training.models import Model


class Algorithm:
    """A part of a recipe; this base class does nothing.

    Attributes:
        name: under which it is registered, and under which its state lies in checkpoints.
        records: classes of what it reads in traces: layers record nothing else.
    """

    name: ClassVar[str] = ""
    records: ClassVar[tuple[type, ...]] = ()

    def on_start(self, run: Run) -> None:
        """Get ready; the model has its initial weights, also where the training is continued."""

    def on_batch(self, run: Run, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Return the inputs and targets of a batch, perhaps changed."""
        return inputs, targets

    def networks(self, run: Run) -> Sequence[Pass] | None:
        """Return the networks of a supernet that this step trains, in order; None leaves it to others.

        Of several algorithms that say so the last counts.
        """
        return None

    def context(self, run: Run, context: Context) -> Context:
        """Return the context of this step's layers."""
        return context

    def network_context(self, run: Run, network: Pass, context: Context) -> Context:
        """Return the context of one network's layers, which begins as that of the step."""
        return context

    @contextmanager
    def weights(self, run: Run) -> Iterator[None]:
        """Run the forward and backward passes of a step inside; afterwards the trained weights are back."""
        yield

    def before_loss(self, run: Run, forward: Forward) -> None:
        """Look at a network's run before its loss is known."""

    def after_loss(self, run: Run, forward: Forward) -> None:
        """Look at a network's run after its loss is known, before that of the next network."""

    def output_loss(self, run: Run, forward: Forward, output: Tensor, loss: Tensor) -> Tensor:
        """Return the loss of each image (B,) for one output of a network, a final one or that of an exit.

        Args:
            forward: the network's run. output: one of `forward.outputs`.
            loss: (B,), what targets and the algorithms before this one say.
        """
        return loss

    def loss(self, run: Run, forward: Forward, loss: Tensor) -> Tensor:
        """Return the loss of each image (B,) for all of a network; at first it is that of its last output."""
        return loss

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return a term that is added to the mean loss of a network, (); None for nothing."""
        return None

    def image_penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return each image's part (B,) in `penalty`, without gradient, for gates that learn by its sum."""
        return None

    def on_gradients(self, run: Run) -> None:
        """Change the gradients, which are complete, before they are clipped."""

    def on_step(self, run: Run) -> None:
        """React to a step of the optimizer; `run.step` is still its number."""

    def on_finish(self, run: Run) -> None:
        """Turn the trained weights into those that ship; not called where a training stops before its end."""

    @contextmanager
    def calibration(self, run: Run) -> Iterator[None]:
        """Run the network as it ships inside, where its batch norms get their final statistics."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: tensors, numbers, text, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`; called after `on_start`."""


@dataclass(frozen=True)
class Pass:
    """One network of a step.

    Attributes:
        architecture: a member of the supernet's space; None for the model itself.
        open_gates: whether it is run without its gates.
        teaches: whether later networks of the step may learn from it.
    """

    architecture: Architecture | None = None
    open_gates: bool = False
    teaches: bool = True

    @property
    def key(self) -> str:
        """The key of the architecture, for a message; empty without one."""
        return f" of architecture {self.architecture.key}" if self.architecture is not None else ""

    @property
    def spelled(self) -> str:
        """The values of the architecture, for a message; empty without one."""
        if self.architecture is None:
            return ""
        return f" ({', '.join(f'{name}={value}' for name, value in self.architecture.items())})"


@dataclass
class Run:
    """A training as its algorithms see it.

    Attributes:
        model: what is trained; `module` has its weights.
        task: what outputs and targets mean.
        target_loss: from an output and the targets to the loss of each image (B,); that of the task at first.
        algorithms: all of them.
        seed: draws everything, together with the step.
        step: number of the current step, from 0. total: of steps. steps_per_epoch: of them in an epoch.
        inputs, targets: of this rank's part of the current batch.
        batch: the whole of it.
        context: of the current step's layers, without a trace.
        numbers: of the images of `inputs` in the training split, (B,); None where they are varied, or the
            data do not say.
        teacher: the output (B, ...) that this step's networks learn from, if there is one.
        outputs: runs a model on the current inputs as the step does: (model, architecture, context), and
            whether its gates are left open.
        forward: the current network's run.
        accumulate: batches of a step. part: number of the current batch in its step, from 0.
        trial: whether networks are asked for only to time a step; nothing can be run then.
    """

    model: Model
    task: Task
    algorithms: Sequence[Algorithm]
    seed: int
    total: int
    steps_per_epoch: int
    outputs: Callable[..., list[Tensor]]
    step: int = 0
    inputs: Any = None
    targets: Any = None
    batch: Batch = field(default_factory=lambda: Batch.whole(0))
    numbers: Tensor | None = None
    context: Context = PLAIN
    teacher: Tensor | None = None
    forward: Forward | None = None
    accumulate: int = 1
    part: int = 0
    trial: bool = False

    def __post_init__(self) -> None:
        self.target_loss: Callable[[Tensor, Any], Tensor] = self.loss_of(self.task)

    def loss_of(self, task: Task) -> Callable[[Tensor, Any], Tensor]:
        """Return the loss of a task, from an output and the targets of the current inputs to (B,)."""

        def loss(output: Tensor, targets: Any) -> Tensor:
            def model(inputs: Any) -> Tensor:
                if inputs is self.inputs:
                    return output
                assert self.forward is not None
                return self.forward.elsewhere(inputs, output)

            return task.step(model, (self.inputs, targets))

        return loss

    @property
    def batch_number(self) -> int:
        """The number of the current batch in the training, from 0."""
        return self.step * self.accumulate + self.part

    @property
    def module(self) -> nn.Module:
        """The module that is trained."""
        return self.model.module

    @property
    def epochs(self) -> float:
        """Return the number of finished epochs."""
        return self.step / self.steps_per_epoch

    @property
    def total_epochs(self) -> float:
        """Return the number of all epochs."""
        return self.total / self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Return the finished share of the training, from 0 to 1."""
        return self.step / self.total

    def last_output(self, model: Model) -> Tensor:
        """Return what another model says of the current inputs, (B, ...)."""
        return self.outputs(model, None, PLAIN)[-1]

    def output_loss(self, forward: Forward, output: Tensor) -> Tensor:
        """Return the loss of each image (B,) for one output, by the targets and all algorithms."""
        loss = self.target_loss(output, self.targets)
        for algorithm in self.algorithms:
            loss = algorithm.output_loss(self, forward, output, loss)
        return loss


@dataclass(eq=False)
class Forward:
    """One network's run on this rank's part of a batch.

    Attributes:
        network: which one it was.
        raw: its outputs: of every exit in order, then the last. What an exit of the criterion `learned` says
            has one column more.
        exits: the places where images may leave.
        trace: what its layers recorded.
        costs: gives what its gates decide on, in the order of their decisions.
        again: runs it on the same images once more, with its gates, in another context.
        others: runs it on other images, and records nothing.
        losses: of each image (B,), once they are known.
    """

    network: Pass
    raw: Sequence[Tensor]
    exits: Sequence[Leaving]
    trace: Trace
    costs: Callable[[], Sequence[GateCost]]
    again: Callable[[Context], Sequence[Tensor]]
    others: Callable[[Any], Sequence[Tensor]]
    losses: Tensor = field(default_factory=lambda: torch.empty(0))

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The outputs (B, ...) of every exit in order, then the last."""
        return self._answers(self.raw)

    def _answers(self, raw: Sequence[Tensor]) -> list[Tensor]:
        criteria = (place.criterion for place in self.exits)
        pairs = zip_longest(raw, criteria, fillvalue="confidence")
        return [answer(output, criterion) for output, criterion in pairs]  # type: ignore[arg-type]

    def elsewhere(self, inputs: Any, output: Tensor) -> Tensor:
        """Return the output (B, ...) for other inputs of the exit that said `output`, or else of the last."""
        place = next((at for at, each in enumerate(self.outputs) if each is output), -1)
        return self._answers(self.others(inputs))[place]

    @property
    def output(self) -> Tensor:
        """The last output (B, ...)."""
        return self.outputs[-1]


register_algorithm = ALGORITHMS.register


def setting(default: Any, help: str, **rules: Any) -> Any:
    """Return a field of an algorithm that space files can set, by the rules of `dynnas.settings.settings`."""
    return field(default=default, metadata={"help": help, **rules})


def make_algorithms(given: Sequence[Algorithm | str]) -> list[Algorithm]:
    """Make algorithms of names, with their default settings; objects stay as they are.

    Raises:
        TrainingError: a name is not registered, or two have the same one, so that their states would mix.
    """
    found = [ALGORITHMS[each]() if isinstance(each, str) else each for each in given]
    names = [each.name or type(each).__name__ for each in found]
    for name in names:
        if names.count(name) > 1:
            raise TrainingError(f"algorithms: two are called {name!r}; give each class a `name` of its own")
    return found


def state_name(algorithm: Algorithm) -> str:
    """Return the name of an algorithm's state in checkpoints."""
    return algorithm.name or type(algorithm).__name__
