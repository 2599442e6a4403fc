"""Early exits by patience: an image leaves once some exits in a row have said the same of it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.state import Beside, Carried

SAID, AGREED = Carried("exit_said", 1), Carried("exit_agreed", 1)
"""The class that the last exit said, and how often in a row exits have said the same as those before them."""


class PatientExits(EarlyExits):
    """Exits of a classifier behind which images leave once several in a row agree.

    PABEE (Zhou et al. 2020, arXiv:2006.04152): a count goes up at each exit that says the class of the one
    before it, and is 0 again at each that does not; an image leaves where it reaches `patience`. All else is
    as in `EarlyExits`.

    Args:
        stages, exits: as in `EarlyExits`; outputs are logits (B, classes).
        patience: from 1 on.

    Raises:
        ValueError: the patience is below 1, or stages and exits are not as `EarlyExits` takes them.
    """

    remembers = (SAID, AGREED)

    def __init__(
        self, stages: Iterable[nn.Module], exits: Iterable[nn.Module | None], *, patience: int = 2
    ) -> None:
        if patience < 1:
            raise ValueError(f"PatientExits: patience is {patience}; allowed: 1 or more")
        super().__init__(stages, exits, threshold=1.0, confidence=agreement)
        self.patience = patience

    def sure(self, output: Tensor, memory: Beside) -> tuple[Tensor, Beside]:
        """Return the share of the patience that is reached, (B,), and what was said and how often."""
        said = output.argmax(dim=1, keepdim=True).to(output.dtype)
        agreed = torch.zeros_like(said)
        if memory:
            agreed = torch.where(said == memory[SAID.name], memory[AGREED.name] + 1, agreed)
        return (agreed[:, 0] / self.patience).clamp(max=1), {SAID.name: said, AGREED.name: agreed}


def agreement(output: Tensor) -> Tensor:
    """Return 1 for each image, (B,): an output alone does not tell how many exits have agreed."""
    return torch.ones_like(output[:, 0])
