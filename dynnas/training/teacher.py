"""The outputs of a teacher that does not change, which need not be computed again for the same image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dynnas.training.algorithm import Run


class TeacherOutputs:
    """The outputs of a teacher for the images that it has seen; a training's checkpoint has them all.

    Images are known by `Run.numbers`. Of a batch that is not known whole all images are asked about.
    """

    def __init__(self) -> None:
        self._known = torch.zeros(0, dtype=torch.bool)
        self._outputs = torch.zeros(0)

    def of(self, run: Run, ask: Callable[[], Tensor], keep: bool = True) -> Tensor:
        """Return the outputs (B, ...) for the current images, which `ask` computes.

        Args:
            keep: whether any are kept.
        """
        numbers = run.numbers
        if not keep or numbers is None or not len(numbers):
            return ask()
        most = int(numbers.max()) + 1
        if most <= len(self._known) and self._known[numbers].all():
            return self._outputs[numbers].to(run.inputs.device)
        found = ask()
        if most > len(self._known):
            self._enlarge(most, found)
        self._known[numbers], self._outputs[numbers] = True, found.cpu()
        return found

    def _enlarge(self, images: int, like: Tensor) -> None:
        known, outputs = self._known, self._outputs
        self._known = torch.zeros(images, dtype=torch.bool)
        self._outputs = torch.zeros(images, *like.shape[1:], dtype=like.dtype)
        if len(known):
            self._known[: len(known)], self._outputs[: len(known)] = known, outputs

    def state_dict(self) -> dict[str, Any]:
        """Return what is known."""
        return {"known": self._known, "outputs": self._outputs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what another object knew; nothing without a state."""
        if state:
            self._known, self._outputs = state["known"], state["outputs"]
