"""The gradients of a step: those of all networks that it trains, on a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dynnas.errors import TrainingError
from dynnas.nn.context import Context, Trace
from dynnas.space.architecture import Architecture
from dynnas.training.algorithm import Forward, Pass, Run
from dynnas.training.execution import Execution
from dynnas.training.models import Model


class Passes:
    """Forward and backward passes of the networks that a training's algorithms name.

    Attributes:
        run: the training; it is set before anything is run.
        execution: how the arithmetic is done; set before the first step.
        records: classes of what layers record.

    Args:
        device: of the model. remedy: says what may help where a loss is not finite.
    """

    run: Run

    def __init__(self, device: torch.device, remedy: Callable[[], str]) -> None:
        self._device, self._remedy = device, remedy
        self.execution: Execution | None = None
        self.records: tuple[type, ...] = ()

    def networks(self) -> Sequence[Pass]:
        """Return the networks of the current step.

        Raises:
            TrainingError: it is a supernet, and no algorithm says which.
        """
        for algorithm in reversed(self.run.algorithms):
            found = algorithm.networks(self.run)
            if found is not None:
                return found
        if self.run.model.space is None:
            return (Pass(),)
        raise TrainingError(
            "training: no algorithm says which networks of the supernet a step trains; add one, such as "
            "'sandwich'"
        )

    def gradients(self, plain: Context, share: float) -> float:
        """Add the gradients of all networks on the current batch to those that are there.

        Args:
            plain: the context that the algorithms change. share: that the batch has in the step.

        Returns:
            The mean loss of the networks, times the share.

        Raises:
            TrainingError: a loss is not finite.
        """
        run = self.run
        run.context, run.teacher = plain, None
        for algorithm in run.algorithms:
            run.context = algorithm.context(run, run.context)
        with seeded(run.seed, run.batch_number), ExitStack() as stack:
            for algorithm in run.algorithms:
                stack.enter_context(algorithm.weights(run))
            losses = [self._backward(network, share) for network in self.networks()]
        return share * sum(losses) / len(losses)

    def _backward(self, network: Pass, share: float) -> float:
        """Compute one network's run, add its gradient to those of the others, and return its loss."""
        run = self.run
        trace = Trace(*self.records) if self.records else None
        context = run.context.traced(trace)
        for algorithm in run.algorithms:
            context = algorithm.network_context(run, network, context)
        forward = Forward(
            network,
            self.run_model(run.model, network.architecture, context, network.open_gates),
            run.model.exits(network.architecture),
            trace or Trace(),
            partial(run.model.costs, network.architecture, run.inputs),
            partial(self.run_model, run.model, network.architecture),
            lambda inputs: self._run_on(inputs, network, context.traced(None)),
        )
        run.forward = forward
        for algorithm in run.algorithms:
            algorithm.before_loss(run, forward)
        losses = run.output_loss(forward, forward.output)
        for algorithm in run.algorithms:
            losses = algorithm.loss(run, forward, losses)
        forward.losses = losses
        loss = losses.mean()
        for algorithm in run.algorithms:
            penalty = algorithm.penalty(run, forward)
            loss = loss if penalty is None else loss + penalty
        # A mean over this rank's part: their sum over ranks is the mean over the batch.
        loss = (len(losses) / run.batch.images) * loss
        value = float(run.batch.ranks.add(loss.detach().clone()))
        if not math.isfinite(value):
            raise TrainingError(
                f"training: the loss{network.key} is {value} at step {run.step}{network.spelled}; "
                f"{self._remedy()}"
            )
        for algorithm in run.algorithms:
            algorithm.after_loss(run, forward)
        (share * loss).backward()
        run.forward = None
        return value

    def run_model(
        self, model: Model, architecture: Architecture | None, context: Context, open_gates: bool = False
    ) -> list[Tensor]:
        """Return the outputs (B, ...) of a model on the current inputs."""
        return self._outputs(model, self.run.inputs, architecture, context, open_gates)

    def _run_on(self, inputs: Any, network: Pass, context: Context) -> list[Tensor]:
        assert self.execution is not None
        inputs = self.execution.prepare(inputs)
        return self._outputs(self.run.model, inputs, network.architecture, context, network.open_gates)

    def _outputs(
        self,
        model: Model,
        inputs: Any,
        architecture: Architecture | None,
        context: Context,
        open_gates: bool,
    ) -> list[Tensor]:
        assert self.execution is not None
        with self.execution.arithmetic(self._device):
            found = model.forward(inputs, architecture, context, open_gates)
        return [output.float() if output.is_floating_point() else output for output in found]


@contextmanager
def seeded(seed: int, number: int) -> Iterator[None]:
    """Seed what modules draw by (seed, number of the batch), and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + number)
        yield
