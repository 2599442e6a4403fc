"""Regularisation of the largest network alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from dynnas.nn.context import Context
from dynnas.nn.layers.dropout import DropoutMode
from dynnas.space.moves import largest
from dynnas.training.algorithm import Algorithm, Forward, Pass, Run, register_algorithm, setting


@register_algorithm("regularized_largest")
@dataclass(eq=False)
class RegularizedLargest(Algorithm):
    """Dropout and label smoothing for the largest network of a supernet, and none of it for all others.

    BigNAS (Yu et al. 2020, arXiv:2003.11142, section 3.3): small networks underfit, and only the largest is
    held back. It takes the place of `label_smoothing` and of the dropout that heads of a space file have;
    dropout in a class of one's own is not touched. Images are varied for all networks alike, for the others
    learn from what the largest says of the same images.
    """

    name = "regularized_largest"

    dropout: float = setting(0.2, "dropout before its classifier", minimum=0.0, maximum=0.95)
    smoothing: float = setting(0.1, "what other classes get of its targets", minimum=0.0, maximum=0.99)

    def on_start(self, run: Run) -> None:
        """Use a loss of targets that depends on the network."""
        space = run.model.space
        self._largest = None if space is None else largest(space)
        self._loss = plain = run.loss_of(run.task)
        smoothed = run.loss_of(run.task.smoothed(self.smoothing)) if self.smoothing else plain
        self._losses = {True: smoothed, False: plain}

        def loss(output: Tensor, targets: Any) -> Tensor:
            return self._loss(output, targets)

        run.target_loss = loss

    def network_context(self, run: Run, network: Pass, context: Context) -> Context:
        """Set the rate of this network."""
        rate = self.dropout if self._holds_back(network) else 0.0
        return context.replace(replace(context[DropoutMode], rate=rate))

    def before_loss(self, run: Run, forward: Forward) -> None:
        """Take the loss of this network."""
        self._loss = self._losses[self._holds_back(forward.network)]

    def _holds_back(self, network: Pass) -> bool:
        return network.architecture == self._largest
