"""Attentive sampling: of several networks of one size the best or the worst is trained."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest
from dynnas.training.algorithm import Algorithm, Pass, Run, register_algorithm, setting
from dynnas.training.algorithms.sampling.sizes import Sizes
from dynnas.training.models import SupernetModel


@register_algorithm("attentive_sampling")
@dataclass(eq=False)
class AttentiveSampling(Algorithm):
    """The sandwich rule, whose random networks are the best or worst of several with as many multiply-adds.

    AttentiveNAS (Wang et al. 2020, arXiv:2011.09011, section 3.2): a size is drawn as random networks have
    it, then `candidates` networks of that size, and the one with the least (best-up) or the greatest
    (worst-up) loss on the batch is trained. The losses of candidates are computed without gradients: a step
    costs `candidates` more forward passes for each random network. It takes the place of `sandwich`.
    """

    name = "attentive_sampling"

    random: int = setting(2, "networks beside the largest and the smallest", minimum=0)
    candidates: int = setting(3, "networks that each of them is the best or the worst of", minimum=1)
    prefer: str = setting("best", "which of them is trained, by its loss", choices=("best", "worst"))
    tolerance: float = setting(
        0.05, "how much candidates may differ in multiply-adds, as a share", minimum=0.0, maximum=1.0
    )

    def on_start(self, run: Run) -> None:
        """Begin without known sizes."""
        model = run.model
        self._sizes = Sizes(model.module) if isinstance(model, SupernetModel) else None
        self._chosen: tuple[int, tuple[Pass, ...]] = (-1, ())

    def networks(self, run: Run) -> Sequence[Pass] | None:
        """Return the networks of a step, largest first; None for a single network."""
        if run.model.space is None:
            return None
        if self._chosen[0] != run.step or run.trial:
            groups = self.groups(run)
            picked = [group[0] if run.trial else self._pick(run, group) for group in groups]
            first, *others = dict.fromkeys((largest(run.model.space), smallest(run.model.space), *picked))
            found = (Pass(first, open_gates=True), *map(Pass, others))
            if run.trial:
                return found
            self._chosen = run.step, found  # all batches of a step train the same networks
        return self._chosen[1]

    def groups(self, run: Run) -> Sequence[Sequence[Architecture]]:
        """Return the candidates for each random network, which follow from (seed, step) alone."""
        assert run.model.space is not None
        assert self._sizes is not None
        rng = random.Random(f"attentive {run.seed} {run.step}")
        found = []
        for _ in range(self.random):
            first = sample(run.model.space, rng)
            size = self._sizes.of(first, run.inputs)
            others = (
                self._sizes.near(run.model.space, size, self.tolerance, run.inputs, rng)
                for _ in range(self.candidates - 1)
            )
            found.append([first, *others])
        return found

    @torch.no_grad()
    def _pick(self, run: Run, group: Sequence[Architecture]) -> Architecture:
        """Return the candidate that is trained, the same on all ranks."""
        different = list(dict.fromkeys(group))
        if len(different) == 1:
            return different[0]
        losses = run.batch.ranks.add(torch.stack([self._loss(run, each) for each in different]))
        at = losses.argmin() if self.prefer == "best" else losses.argmax()
        return different[int(at)]

    def _loss(self, run: Run, architecture: Architecture) -> Tensor:
        output = run.outputs(run.model, architecture, run.context)[-1]
        return run.target_loss(output, run.targets).sum()
