"""The modes of dynamic convolutions, as values of a `dynnas.nn.context.Context`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

Strategy = Literal["auto", "conv_first"]
"""A strategy: `auto` is the fastest way for the batch; `conv_first` can be exported with a free batch
axis.
"""


@dataclass(frozen=True)
class ConvMode:
    """The mode in which a mixed convolution runs."""

    strategy: Strategy = "auto"

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            ValueError: there is no such strategy.
        """
        if self.strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise ValueError(f"unknown strategy {self.strategy!r}: known are {known}")


@dataclass(frozen=True)
class RouterMode:
    """The mode in which routers mix kernels.

    Attributes:
        temperature: of softmax routers (`dyconv`); 1 in a finished network, above it early in a training.
        dropout: rate at which routers (`condconv`) lose what they see while training, from 0 to below 1.
        sample: draws what dropout draws, as `GateMode.sample`; None for torch's own dropout.
    """

    temperature: float = 1.0
    dropout: float = 0.0
    sample: Callable[[Callable[[tuple[int, ...], Tensor], Tensor], Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: the temperature is not positive, or the rate is not from 0 to below 1.
        """
        if not self.temperature > 0:
            raise ValueError(f"a softmax temperature is positive, not {self.temperature}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"a dropout rate is from 0 to below 1, not {self.dropout}")
