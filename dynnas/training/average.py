"""The running average of a network's weights, which is steadier than the weights after any one step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of the parameters of `network`.

    The decay of step t is min(decay, (1 + t) / (10 + t)): an average that starts slow would remember the
    first weights for as long as a short training lasts. Batch-norm statistics are no part of it: they are
    calibrated for the averaged weights when the training ends.

    Attributes:
        values: the averaged parameters by name.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.values = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self._network.named_parameters():
            self.values[name].lerp_(value, 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from the `values` of another one."""
        for name, value in values.items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average in the place of the network's weights."""
        for name, value in self._network.named_parameters():
            value.copy_(self.values[name])
