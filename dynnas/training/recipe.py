"""The recipes of supernets and finished networks: settings, and the algorithms that they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dynnas.settings.settings import TrainSettings
from dynnas.training.algorithm import ALGORITHMS, Algorithm


@dataclass(frozen=True)
class Recipe:
    """Settings of a training of one network.

    Attributes:
        train: schedule, optimizer, algorithms and seed, as of a supernet; precision `auto` is bfloat16 on
            CUDA and float32 elsewhere.
        start: the weights that the training starts from: `inherited` ones, or random ones, `scratch`.
        teacher: `largest`, the supernet's largest network; `none`; or names of earlier trainings of the
            study, joined by commas: one is a teacher assistant, several teach together, and one whose names
            are joined by a plus has the mean of their weights.
        teacher_weight: the teacher's share in the loss. teacher_temperature: of the distillation.
        ema: largest decay of the average of the weights, which is what ships; 0 for the last weights.
        weights: `real`; `binary` (BinaryConnect) or `ternary` kernels (trained ternary quantisation); or
            `int8`, quantisation-aware training of a network that ships so.
    """

    train: TrainSettings
    start: str = "inherited"
    teacher: str = "largest"
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0
    ema: float = 0.999
    weights: str = "real"

    @property
    def digest(self) -> str:
        """Return eight hexadecimal digits of all settings."""
        facts = asdict(self) | {"train": self.train.facts()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def layout(self) -> str:
        """Return the memory layout of images and maps."""
        return "channels_last" if self.train.layout == "auto" else self.train.layout

    def precision(self, device: str) -> str:
        """Return the arithmetic on `device`."""
        if self.train.precision != "auto":
            return self.train.precision
        return "bfloat16" if device.startswith("cuda") else "float32"


SUPERNET = ("sandwich", "trained_teacher", "in_place_distillation")
"""The algorithms by which supernets alone are trained, unless settings leave them out."""

ONLY_SUPERNET = (
    *SUPERNET,
    "fair_sampling",
    "attentive_sampling",
    "adjacent_sampling",
    "progressive_resolution",
    "regularized_largest",
)
"""The algorithms that single networks are not trained by."""

COMMON = (
    "label_smoothing",
    "early_exits",
    "exit_policy",
    "router_temperature",
    "gate_learning",
    "gate_budget",
    "reinforce",
    "policy_gradient",
    "policy_loss",
)
"""The algorithms of supernets and single networks, unless settings leave them out."""

ORDER = (
    *SUPERNET,
    "fair_sampling",
    "attentive_sampling",
    "adjacent_sampling",
    "progressive_resolution",
    "label_smoothing",
    "regularized_largest",
    "early_exits",
    "exit_order",
    "exit_ranking",
    "exit_policy",
    "router_temperature",
    "routing_dropout",
    "gate_learning",
    "gate_budget",
    "gate_sparsity",
    "reinforce",
    "policy_gradient",
    "gate_guidance",
    "gate_similarity",
    "policy_loss",
)
"""The algorithms whose order is fixed; all others follow them, in the order of the settings."""


def supernet_algorithms(settings: TrainSettings) -> list[Algorithm]:
    """Return the algorithms by which a supernet is trained."""
    return _made(settings, (*SUPERNET, *COMMON), {})


def common_algorithms(settings: TrainSettings, annealed: bool = False) -> list[Algorithm]:
    """Return the algorithms by which a single network is trained.

    Args:
        annealed: whether the weights have been through the annealing of temperatures and noise already.
    """
    single = {name: given for name, given in settings.algorithms.items() if name not in ONLY_SUPERNET}
    held = {"router_temperature": {"start": 1.0}, "gate_learning": {"noise": 0.0}} if annealed else {}
    return _made(replace(settings, algorithms=single), COMMON, held)


def _made(
    settings: TrainSettings, usual: Sequence[str], held: Mapping[str, Mapping[str, Any]]
) -> list[Algorithm]:
    """Return the usual algorithms and those of the settings, in order.

    Settings in `held` come first.
    """
    given = settings.algorithms
    names = [name for name in dict.fromkeys((*usual, *given)) if given.get(name) is not False]
    ranks = {name: place for place, name in enumerate(ORDER)}
    names.sort(key=lambda name: ranks.get(name, len(ranks)))
    found = []
    for name in names:
        own = given.get(name, {})
        found.append(ALGORITHMS[name](**{**(own if isinstance(own, Mapping) else {}), **held.get(name, {})}))
    return found


def layouts_of(settings: TrainSettings) -> tuple[str, ...]:
    """Return the memory layouts to choose from."""
    return ("channels_first", "channels_last") if settings.layout == "auto" else (settings.layout,)


def precisions_of(settings: TrainSettings) -> tuple[str, ...]:
    """Return the precisions to choose from."""
    return ("float32", "bfloat16") if settings.precision == "auto" else (settings.precision,)
