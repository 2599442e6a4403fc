"""The order in which a network's exits are trained: apart from it, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.networks.network import Network, slot_module, stretches
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("exit_order")
@dataclass(eq=False)
class ExitOrder(Algorithm):
    """Exits are trained after the rest of a network, or stretch by stretch; without it, all together.

    - `separate`: for `share` of the steps the network is trained by its last output alone, and then nothing
      but its exits, by the mean of their losses (classifier-wise training).
    - `mixed`: the same, but then all of it is trained together (Kubaty et al. 2025, arXiv:2407.14320).
    - `stages`: with K exits and the last output, the training has K + 1 equal parts. In part k the stretch
      that ends at exit k is trained with it, by its output alone, and what comes before stays as it is
      (layer-wise training).

    The first and the last are the alternatives to joint training, which `early_exits` is, in the survey of
    Scardapane et al. 2020, arXiv:2004.12814. What is not trained gets no gradient, and an optimizer leaves it
    alone; batch norms go on counting. It is for single networks, and does nothing where there are no exits.
    """

    name = "exit_order"

    order: str = setting("separate", "what is trained when", choices=("separate", "mixed", "stages"))
    share: float = setting(
        0.5, "steps before exits are trained, as a share; not for stages", minimum=0.0, maximum=1.0
    )

    def on_start(self, run: Run) -> None:
        """Find the stretches of the network and their exits."""
        self._parts = [] if run.model.space is not None else parts_of(run.module)

    def stage(self, run: Run) -> int:
        """Return the number of the part of the training, from 0."""
        if self.order != "stages":
            return int(run.fraction >= self.share)
        return min(run.step * len(self._parts) // run.total, len(self._parts) - 1)

    def loss(self, run: Run, forward: Forward, loss: Tensor) -> Tensor:
        """Return the loss (B,) of the outputs whose turn it is."""
        outputs = forward.outputs
        if len(outputs) < 2 or len(outputs) != len(self._parts):
            return loss
        stage = self.stage(run)
        if self.order == "stages":
            return run.output_loss(forward, outputs[stage])
        if not stage:
            return run.output_loss(forward, outputs[-1])
        if self.order == "mixed":
            return loss
        each = [run.output_loss(forward, output) for output in outputs[:-1]]
        return sum(each[1:], each[0]) / len(each)

    def on_gradients(self, run: Run) -> None:
        """Drop the gradients of what is not trained now."""
        stage = self.stage(run) if len(self._parts) > 1 else 0
        if len(self._parts) < 2 or (self.order == "mixed" and stage):
            return
        exits = [exit for _, exit in self._parts[:-1]]
        if self.order == "stages":
            trained = list(self._parts[stage])
        elif stage:
            trained = exits
        else:
            trained = [run.module]
        kept = {id(value) for module in trained for value in module.parameters()}
        if self.order != "stages" and not stage:
            kept -= {id(value) for exit in exits for value in exit.parameters()}
        for value in run.module.parameters():
            if id(value) not in kept:
                value.grad = None


def parts_of(module: nn.Module) -> Sequence[tuple[nn.Module, nn.Module]]:
    """Return the stretches of a network, each with the exit at its end; the last exit is the last output.

    That of the first early exits inside a module of one's own, with what stands before them in its first
    stretch; or of a network of a space file. Empty if there are none.
    """
    if isinstance(module, Network):
        found = []
        for stretch in stretches(module.config):
            body = [module.slots[slot_module(slot)] for slot, _ in stretch.body]
            found.append((nn.ModuleList(body), module.slots[slot_module(stretch.classifier[0])]))
        return found
    early = next((part for part in module.modules() if isinstance(part, EarlyExits)), None)
    if early is None:
        return []
    inside = {id(value) for value in early.parameters()}
    before = nn.ParameterList([value for value in module.parameters() if id(value) not in inside])
    found, start = [], 0
    for place, exit in early.exits.items():
        body = [*early.stages[start : int(place) + 1]]
        found.append((nn.ModuleList([*body, before] if not start else body), exit))
        start = int(place) + 1
    return found
