"""How a finished network is trained alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from dynnas.settings.settings import TrainSettings
from dynnas.training.execution import Execution


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

    def execution(self, device: str) -> Execution:
        """How the arithmetic is done on `device`, torch's type of it."""
        layout, precision = self.train.layout, self.train.precision
        if precision == "auto":
            precision = "bfloat16" if device == "cuda" else "float32"
        return Execution("channels_last" if layout == "auto" else layout, precision)
