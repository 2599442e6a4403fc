"""How supernets and finished networks are trained: settings, and the algorithms that they mean."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from dynnas.settings.settings import TrainSettings
from dynnas.training.algorithm import Algorithm
from dynnas.training.algorithms.early_exits import EarlyExits
from dynnas.training.algorithms.gate_budget import GateBudget
from dynnas.training.algorithms.gate_learning import GateLearning
from dynnas.training.algorithms.guidance import GateGuidance
from dynnas.training.algorithms.in_place_distillation import InPlaceDistillation
from dynnas.training.algorithms.label_smoothing import LabelSmoothing
from dynnas.training.algorithms.policy_loss import PolicyLoss
from dynnas.training.algorithms.reinforce import Reinforce
from dynnas.training.algorithms.router_temperature import RouterTemperature
from dynnas.training.algorithms.routing_dropout import RoutingDropout
from dynnas.training.algorithms.sandwich import Sandwich
from dynnas.training.algorithms.similarity import GateSimilarity
from dynnas.training.algorithms.sparsity import GateSparsity


@dataclass(frozen=True)
class Recipe:
    """Settings of a training of one network.

    Attributes:
        train: schedule, optimizer, loss weights and seed, as of a supernet. `teacher_weight` is the teacher's
            share in the loss, where there is one; precision `auto` is bfloat16 on CUDA and float32 elsewhere.
        start: whether the weights that the training starts from are `inherited` or drawn anew, `scratch`.
        teacher: `largest`, the supernet's largest network, or `none`.
        teacher_temperature: of the distillation.
        ema: largest decay of the average of the weights, which is what ships; 0 for the last weights.
        weights: `real`, or `binary` kernels (BinaryConnect).
    """

    train: TrainSettings
    start: str = "inherited"
    teacher: str = "largest"
    teacher_temperature: float = 2.0
    ema: float = 0.999
    weights: str = "real"

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of all settings."""
        facts = asdict(self) | {"train": self.train.facts()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def layout(self) -> str:
        """The memory layout of images and maps."""
        return "channels_last" if self.train.layout == "auto" else self.train.layout

    def precision(self, device: str) -> str:
        """The arithmetic on `device`."""
        if self.train.precision != "auto":
            return self.train.precision
        return "bfloat16" if device.startswith("cuda") else "float32"


def supernet_algorithms(settings: TrainSettings) -> list[Algorithm]:
    """The algorithms by which a supernet is trained."""
    return [
        Sandwich(settings.random_networks),
        InPlaceDistillation(settings.teacher_weight),
        *common_algorithms(settings),
    ]


def common_algorithms(settings: TrainSettings, annealed: bool = False) -> list[Algorithm]:
    """The algorithms by which supernets and single networks are trained alike.

    Args:
        annealed: whether the weights have been through the annealing of temperatures and noise already.
    """
    return [
        LabelSmoothing(settings.label_smoothing),
        EarlyExits(settings.exit_weight),
        RouterTemperature(1.0 if annealed else settings.temperature, settings.temperature_epochs),
        RoutingDropout(settings.routing_dropout),
        GateLearning(
            settings.gate_estimator,
            settings.gate_reinforce_epochs,
            settings.gate_temperature,
            0.0 if annealed else 1.0,
        ),
        GateBudget(settings.gate_weight),
        GateSparsity(settings.gate_sparsity),
        Reinforce(),
        GateGuidance(settings.gate_guidance),
        GateSimilarity(settings.gate_similarity),
        PolicyLoss(),
    ]


def layouts_of(settings: TrainSettings) -> tuple[str, ...]:
    """The memory layouts to choose from."""
    return ("channels_first", "channels_last") if settings.layout == "auto" else (settings.layout,)


def precisions_of(settings: TrainSettings) -> tuple[str, ...]:
    """The precisions to choose from."""
    return ("float32", "bfloat16") if settings.precision == "auto" else (settings.precision,)
