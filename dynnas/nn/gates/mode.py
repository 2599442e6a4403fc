"""The modes in which gates decide and are executed, as values of a `dynnas.nn.context.Context`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from dynnas.nn.context import Context

Execution = Literal["masked", "real", "counted"]
"""An execution: `masked` computes everything. `real` computes only what images want, those of a batch that
want the same together. `counted` is for `dynnas.training.batchnorm.calibrate`, and what it computes is for
the layer to say (`Deciding.counted`): as `real` where images do not share batch norms, else as `masked` with
norms that are told which images a channel has; a chosen resolution runs all images at every size.
"""

Choice = Literal["gate", "all", "cheapest"]
"""A choice: `gate` is what the gate says. `all` runs all of the block for every image, and asks no gate.
`cheapest` runs the cheapest alternative for every image; decisions are not recorded.
"""

Estimator = Literal["gumbel", "straight", "soft", "semhash", "reinforce"]
"""An estimator: `gumbel` draws by the logits' softmax (Gumbel straight-through: Jang et al. 2017,
arXiv:1611.01144); `straight` takes the largest logit, with the softmax's gradient (straight-through: Bengio
et al. 2013, arXiv:1308.3432); `soft` takes the softmax itself, while training; `semhash` takes a saturating
one for half of the images, and its largest for the others (improved semantic hashing: Kaiser and Bengio 2018,
arXiv:1801.09797); `reinforce` draws, passes no gradient, and learns from the outcome (Williams 1992): see
`dynnas.training.algorithms.gates.reinforce`.
"""

Draw = Callable[[tuple[int, ...], Tensor], Tensor]
"""A function that draws random numbers of a shape, on the device of a tensor."""


def draw_for_all(draw: Draw, like: Tensor) -> Tensor:
    """Draw random numbers of the shape of `like` (B, ...)."""
    return draw(tuple(like.shape), like)


@dataclass(frozen=True)
class GateMode:
    """The mode in which gates decide and blocks are executed.

    Attributes:
        execution: how what a gate decides on is executed.
        choice: who chooses.
        estimator: how a gate learns.
        temperature: of the softmax of gates that learn; above 0.
        noise: scale of the noise of gates that learn: 1 to draw, 0 for none.
        sample: draws this call's numbers with a `Draw` for a tensor (B, ...); a rank of several takes its
            rows of what all of them draw.
    """

    execution: Execution = "masked"
    choice: Choice = "gate"
    estimator: Estimator = "gumbel"
    temperature: float = 1.0
    noise: float = 1.0
    sample: Callable[[Draw, Tensor], Tensor] = draw_for_all

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a name is not known, or the temperature is not positive.
        """
        known: tuple[tuple[str, str, Any], ...] = (
            ("execution", self.execution, Execution),
            ("choice", self.choice, Choice),
            ("estimator", self.estimator, Estimator),
        )
        for what, name, kind in known:
            if name not in get_args(kind):
                raise ValueError(f"unknown {what} {name!r}: known are {', '.join(get_args(kind))}")
        if not self.temperature > 0:
            raise ValueError(f"a softmax temperature is positive, not {self.temperature}")


REAL = Context(GateMode(execution="real"))
"""The context in which nothing runs that an image leaves out."""
