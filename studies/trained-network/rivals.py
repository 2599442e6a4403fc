"""What other tools make of a trained network; they are imported when they are asked for."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

DIVISOR = 8
"""Numbers of channels are multiples of it, as `dynnas.elastic` has them by default."""


@dataclass(frozen=True)
class Task:
    """What a method is given.

    Attributes:
        network: trained, in eval mode. image: one, as the network takes it.
        batches: of training images (B, C, H, W), for statistics of norms.
        score: the accuracy of a network on the search images.
        folder: to keep what the method keeps.
    """

    network: nn.Module
    image: Tensor
    batches: Sequence[Tensor]
    score: Callable[[nn.Module], float]
    folder: Path


@dataclass(frozen=True)
class Method:
    """Another way to a smaller network.

    Attributes:
        make: returns the network with a share of what it had, before it is tuned.
        shares: that are made. needs: the module of its package; none if it is empty.
    """

    make: Callable[[Task, float], nn.Module]
    shares: tuple[float, ...]
    needs: str = ""

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return not self.needs or find_spec(self.needs) is not None


def unchanged(task: Task, share: float) -> nn.Module:
    """Return the network itself: what tuning alone brings."""
    return copy.deepcopy(task.network)


def torch_pruning(task: Task, share: float) -> nn.Module:
    """Return what Torch-Pruning's magnitude pruner leaves of a network: a share of its channels."""
    import torch_pruning as tp

    pruned = copy.deepcopy(task.network).eval()
    pruner = tp.pruner.MagnitudePruner(
        pruned,
        task.image,
        importance=tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=1 - share,
        ignored_layers=[pruned.fc],
        round_to=DIVISOR,
    )
    pruner.step()
    return pruned


def fastnas(task: Task, share: float) -> nn.Module:
    """Return the network of ModelOpt's FastNAS search with a share of the multiply-adds."""
    declared = _torchvision_imported()
    import modelopt.torch.prune as mtp

    space = mtp.fastnas.FastNASConfig()
    space["nn.Conv2d"]["*"]["channel_divisor"] = DIVISOR
    space["nn.BatchNorm2d"]["*"]["feature_divisor"] = DIVISOR
    found, _ = mtp.prune(
        copy.deepcopy(task.network).eval(),
        mode=[("fastnas", space)],
        constraints={"flops": f"{100 * share:g}%"},
        dummy_input=task.image,
        config={
            "score_func": task.score,
            "data_loader": [(batch,) for batch in task.batches],
            "checkpoint": str(task.folder / "search.pth"),
            "verbose": False,
        },
    )
    del declared
    return found.eval()


def _torchvision_imported() -> torch.library.Library:
    """Import torchvision, and declare what it misses beside another torch; see `tests/conftest.py`."""
    operators = torch.library.Library("torchvision", "FRAGMENT")
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators


METHODS = {
    "tuned": Method(unchanged, (1.0,)),
    "torch-pruning": Method(torch_pruning, (0.75, 0.5), "torch_pruning"),
    "fastnas": Method(fastnas, (0.55, 0.3), "modelopt"),
}
"""Shares are of channels for Torch-Pruning, and of multiply-adds for FastNAS: about the same networks."""


def load(path: Path) -> nn.Module | None:
    """Return a module that this study has kept, or None; the file is this study's own, and run as code."""
    return torch.load(path, weights_only=False) if path.exists() else None
