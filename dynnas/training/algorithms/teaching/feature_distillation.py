"""Distillation by feature maps: where a teacher looks, and how it relates images to one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TrainingError
from dynnas.nn.networks.network import Network
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.algorithms.teaching.distillation import Distillation, teachers_of


@register_algorithm("feature_distillation")
@dataclass(eq=False)
class FeatureDistillation(Algorithm):
    """Feature maps learn from those of the teacher of `distillation`, the first if there are several.

    Neither way needs maps of equal channels or layers to compare them by:

    - `attention`: where a map is large, the mean of its squares over channels (Zagoruyko and Komodakis 2017,
      arXiv:1612.03928, section 3.1);
    - `distances`, `angles`: how far images of a batch lie apart, and the angles of all triples (relational
      knowledge distillation: Park et al. 2019, arXiv:1904.05068, section 3.2).

    It is for single networks, and does nothing where there is no teacher. Of networks of space files the last
    blocks of stages of one name are compared.

    Args:
        pairs: names of modules of the network, each with one of the teacher whose output it learns from.
    """

    name = "feature_distillation"

    weight: float = setting(100.0, "of the mean loss over pairs", minimum=0.0)
    by: str = setting("attention", "what is compared", choices=("attention", "distances", "angles"))
    pairs: Mapping[str, str] = field(default_factory=dict)

    def on_start(self, run: Run) -> None:
        """Find the teacher and the pairs.

        Raises:
            TrainingError: the two have no modules to compare.
        """
        taught = (each.teacher for each in run.algorithms if isinstance(each, Distillation))
        self._teacher = next(iter(teachers_of(next(taught, None))), None)
        self._maps: dict[tuple[str, str], Tensor] = {}
        if self._teacher is None or run.model.space is not None:
            self._pairs: Mapping[str, str] = {}
            return
        self._pairs = self.pairs or _last_blocks(run.module, self._teacher)
        names = [dict(module.named_modules()) for module in (run.module, self._teacher)]
        missing = [
            name
            for pair in self._pairs.items()
            for name, known in zip(pair, names, strict=True)
            if name not in known
        ]
        if missing or not self._pairs:
            raise TrainingError(
                f"feature_distillation: there are no modules {', '.join(missing) or 'of stages'} to compare; "
                "give names of modules of the network and of its teacher as FeatureDistillation(pairs={...})"
            )

    @contextmanager
    def weights(self, run: Run) -> Iterator[None]:
        """Listen to the modules while a step runs."""
        with ExitStack() as stack:
            for own, other in self._pairs.items():
                assert self._teacher is not None
                for side, module, name in (("own", run.module, own), ("teacher", self._teacher, other)):
                    handle = module.get_submodule(name).register_forward_hook(self._keep(side, name))
                    stack.callback(handle.remove)
            yield
        self._maps.clear()

    def _keep(self, side: str, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            kept = output if isinstance(output, Tensor) else output[0]
            self._maps[side, name] = kept if side == "own" else kept.detach()

        return hook

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the mean loss over the pairs that have run."""
        losses = [
            LOSSES[self.by](self._maps["own", own].float(), self._maps["teacher", other].float())
            for own, other in self._pairs.items()
            if ("own", own) in self._maps and ("teacher", other) in self._maps
        ]
        return self.weight * torch.stack(losses).mean() if losses and self.weight else None


def attention_loss(own: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the normalised attention maps of two maps (B, C, H, W): ().

    The larger one is averaged down to the places of the smaller one, as in the authors' code.
    """
    size = min(own.shape[2], teacher.shape[2]), min(own.shape[3], teacher.shape[3])
    own, teacher = (F.adaptive_avg_pool2d(x, size) for x in (own, teacher))
    maps = [F.normalize(x.square().mean(1).flatten(1)) for x in (own, teacher)]
    return (maps[0] - maps[1]).square().mean()


def distance_loss(own: Tensor, teacher: Tensor) -> Tensor:
    """Return Huber's loss between distances of all pairs of images, each by their mean: ().

    Args:
        own, teacher: (B, ...), which may differ but in B.
    """
    tables = []
    for features in (own, teacher):
        rows = features.flatten(1)
        squares = (rows[:, None] - rows[None]).square().sum(-1)
        apart = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        distances = squares[apart].clamp(min=1e-12).sqrt()
        tables.append(distances / distances.mean())
    return F.smooth_l1_loss(tables[0], tables[1]) if tables[0].numel() else own.new_zeros(())


def angle_loss(own: Tensor, teacher: Tensor) -> Tensor:
    """Return Huber's loss between the cosines of the angles of all triples of images: ().

    Args:
        own, teacher: (B, ...), which may differ but in B.
    """
    tables = []
    for features in (own, teacher):
        rows = features.flatten(1)
        towards = F.normalize(rows[None] - rows[:, None], dim=2)
        tables.append(towards @ towards.transpose(1, 2))
    return F.smooth_l1_loss(tables[0], tables[1])


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "attention": attention_loss,
    "distances": distance_loss,
    "angles": angle_loss,
}


def stages_of(network: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Return the blocks of each stage of a network or supernet of space files, by the stages' names."""
    slots = getattr(network, "slots", {})
    found: dict[str, tuple[str, ...]] = {}
    for match in filter(None, (re.fullmatch(r"(?!exits__)(.+)__\d+", name) for name in slots)):
        found[match[1]] = (*found.get(match[1], ()), f"slots.{match[0]}")
    return found


def _last_blocks(network: nn.Module, teacher: nn.Module) -> dict[str, str]:
    """Return the last blocks of the stages that two networks of space files share, by their names."""
    known = [stages_of(each) if isinstance(each, Network) else {} for each in (network, teacher)]
    own, others = known
    return {own[stage][-1]: others[stage][-1] for stage in own if stage in others}
