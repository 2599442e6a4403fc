"""Progressive resolution: a training begins with small images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from dynnas.errors import TrainingError
from dynnas.nn.layers.resize import resize
from dynnas.space.architecture import Architecture
from dynnas.supernet.staged import StagedBuild
from dynnas.training.algorithm import Algorithm, Pass, Run, register_algorithm, setting


@register_algorithm("progressive_resolution")
@dataclass(eq=False)
class ProgressiveResolution(Algorithm):
    """Images are small at first and grow in equal steps (EfficientNetV2: Tan and Le 2021, arXiv:2104.00298).

    The training has `stages` of equal length; in stage i of M the side of an image is
    S_0 + (S_M - S_0) i / (M - 1) (algorithm 1), where S_0 is `start` of the whole side, rounded to multiples
    of `multiple`. The paper lets augmentation and dropout grow with it; here they are left as they are.

    Networks of a space that chooses its resolution are held to what is as large as the images: their value of
    `gene` is the greatest that is not larger, or the least. Those of any other class get smaller images, and
    must be able to take them. Networks of a space file with one resolution would enlarge small images again,
    and nothing would be saved.
    """

    name = "progressive_resolution"

    start: float = setting(0.5, "side of the first images, as a share", minimum=0.1, maximum=1.0)
    stages: int = setting(4, "number of sizes", minimum=2)
    multiple: int = setting(8, "pixels that sides are multiples of", minimum=1)
    gene: str = setting("resolution", "choice of the space by which networks take images of several sizes")

    def on_start(self, run: Run) -> None:
        """Find the choice of the resolution.

        Raises:
            TrainingError: all networks of a space file have one resolution.
        """
        space = run.model.space
        genes = [gene for gene in space.genes if gene.name == self.gene] if space is not None else []
        values = genes[0].values if genes else ()
        self._sizes = sorted(value for value in values if isinstance(value, int))
        staged = space is not None and isinstance(run.module.build, StagedBuild)
        if staged and len(self._sizes) < 2:
            raise TrainingError(
                f"train.algorithms.progressive_resolution: the space has no choice {self.gene!r} of several "
                "numbers, so that images would be enlarged again; give input.resolutions several values, or "
                "leave the algorithm out"
            )

    def share(self, run: Run) -> float:
        """Return the side of this step's images as a share of the whole."""
        stage = min(run.step * self.stages // run.total, self.stages - 1)
        return self.start + (1 - self.start) * stage / (self.stages - 1)

    def on_batch(self, run: Run, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Make images (B, C, H, W) smaller, unless networks are held to small resolutions."""
        share = self.share(run)
        if len(self._sizes) > 1 or share == 1 or not isinstance(inputs, Tensor) or inputs.ndim != 4:
            return inputs, targets
        height, width = (self._rounded(share * side, side) for side in inputs.shape[2:])
        return resize(inputs, (height, width)), targets

    def networks(self, run: Run) -> Sequence[Pass] | None:
        """Return the networks of the step with resolutions that are not too large yet."""
        if len(self._sizes) < 2:
            return None
        others = (each.networks(run) for each in reversed(run.algorithms) if each is not self)
        given = next((found for found in others if found is not None), None)
        if given is None:
            return None
        most = self.share(run) * self._sizes[-1]
        held = [replace(each, architecture=self._held(run, each.architecture, most)) for each in given]
        first: dict[Architecture | None, Pass] = {}
        for each in held:
            first.setdefault(each.architecture, each)
        return list(first.values())

    def _held(self, run: Run, architecture: Architecture | None, most: float) -> Architecture | None:
        """Return an architecture whose resolution is at most `most`, or the least that there is."""
        space = run.model.space
        if space is None or architecture is None or self.gene not in architecture:
            return architecture
        fitting = [size for size in self._sizes if size <= most] or self._sizes[:1]
        size = min(architecture[self.gene], fitting[-1])
        return space.architecture({**architecture, self.gene: size})

    def _rounded(self, side: float, whole: int) -> int:
        return min(whole, max(self.multiple, round(side / self.multiple) * self.multiple))
