"""Dropout whose rate the context may set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.context import Context, Contextual


@dataclass(frozen=True)
class DropoutMode:
    """The mode in which dropout before classifiers runs while training.

    Attributes:
        rate: from 0 to below 1; None where each layer has its own.
        sample: draws what dropout draws, as `GateMode.sample`; None for torch's own dropout.
    """

    rate: float | None = None
    sample: Callable[[Callable[[tuple[int, ...], Tensor], Tensor], Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        """Check the rate.

        Raises:
            ValueError: it is not from 0 to below 1.
        """
        if self.rate is not None and not 0 <= self.rate < 1:
            raise ValueError(f"a dropout rate is from 0 to below 1, not {self.rate}")


class Dropout(Contextual):
    """Dropout of (B, ...) (Srivastava et al. 2014), with a rate of its own or that of the `DropoutMode`.

    Args:
        rate: from 0 to below 1.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Drop values of `x`, of any shape, while training."""
        mode = (context or self.context)[DropoutMode]
        rate = self.rate if mode.rate is None else mode.rate
        if not self.training or rate == 0:
            return x
        if mode.sample is None:
            return F.dropout(x, rate)
        return x * mode.sample(lambda shape, like: F.dropout(like.new_ones(shape), rate), x)
