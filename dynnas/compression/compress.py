"""The contract of a compression pass: its input and its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dynnas.data.dataset import Dataset
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.runtimes.artifact import Artifact
from dynnas.training.algorithm import Algorithm
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import train_alone


@dataclass(frozen=True)
class CompressionInput:
    """The input of a pass.

    Attributes:
        network: calibrated, in eval mode, on the CPU; a pass changes a copy only.
        dataset: its training images are all that a pass looks at.
        recipe: of the tuning.
        teacher: those of the tuning, or None.
        folder: for checkpoints, and for the files that the pass makes.
        options: of the pass, as `amount`.
        progress: told of every training.
        device: where networks are trained.
        fresh: makes a network like `network` with weights drawn from a seed.
    """

    network: Network
    dataset: Dataset
    recipe: Recipe
    teacher: Sequence[Network] | None
    folder: Path
    options: Mapping[str, Any]
    progress: Progress
    device: str
    fresh: Callable[[int], Network]

    def calibration_images(self) -> Tensor:
        """Training images (N, channels, H, W), normalised, of the size that the network takes."""
        train = self.recipe.train
        images = self.dataset.calibration_images(train.calibration_images, train.seed)
        return resize(images, self.network.config.shape[1:]).cpu()

    def training_batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return batches of training images, varied as in a training, with their targets."""
        train = self.recipe.train
        steps = min(self.dataset.steps(train.batch), max(1, train.calibration_images // train.batch))
        size = self.network.config.shape[1:]
        return [
            (resize(images, size).cpu(), targets.cpu())
            for images, targets in self.dataset.training_batches(train.seed, 0, train.batch, 0, steps)
        ]

    def tune(
        self,
        network: Network,
        constraint: Algorithm | None = None,
        name: str = "tuning",
        recipe: Recipe | None = None,
        **span: int | None,
    ) -> Network:
        """Train `network` in place by `recipe`, the source's if None; the result is on the CPU."""
        trained = train_alone(
            network, self.dataset, recipe or self.recipe, self.folder / name, teacher=self.teacher,
            algorithms=[constraint] if constraint else [], progress=self.progress, name=name,
            device=self.device, **span,  # type: ignore[arg-type]
        )  # fmt: skip
        return trained.cpu()


@dataclass(frozen=True)
class CompressedModel:
    """The output of a pass.

    Attributes:
        network: that it ends with, in eval mode; None for a pass that compiles.
        artifact: what a pass that compiles made of the network, for one image.
        file: what ships, whose size counts; None for the artifact, or the portable ONNX graph of `network`.
        controls: other networks to be judged beside it, by name.
        details: what the pass has to tell, for JSON.
    """

    network: Network | None = None
    artifact: Artifact | None = None
    file: Path | None = None
    controls: Mapping[str, Network] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """A compression pass, by name.

    Attributes:
        run: does it.
        options: names and defaults of what may be set.
        trains: whether it trains, and so reads the recipe.
        compiles: whether it ends with a graph in int8, which runs on a CPU.
        start: of its trainings, as in `dynnas.training.Recipe`.
    """

    run: Callable[[CompressionInput], CompressedModel]
    options: Mapping[str, float | int | str]
    trains: bool = True
    compiles: bool = False
    start: str = "inherited"
