"""Each image at a resolution of its own, for any class (DRNet: Zhu et al. 2021, arXiv:2106.02898).

It is what `dynnas.nn.networks.resolution` is for the networks of space files: one predictor, one set of
weights, statistics of batch norms for each resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.nn.blocks_by_name import gate_around, real_in_evaluation
from dynnas.nn.config.network import BlockConfig, ResolutionConfig
from dynnas.nn.context import Context
from dynnas.nn.gates.gate import Decision, Gated
from dynnas.nn.gates.state import Flow
from dynnas.nn.layers.resize import Resize
from dynnas.nn.networks.resolution import ResolutionGate, sharing, store_once


class DynamicResolution(Gated):
    """A module that runs each image at one of several resolutions, which a small predictor chooses.

    In training the module runs at all of them, and the predictor learns by Gumbel draws and the budget of
    gates. In evaluation an image runs at its own. A graph for one image has a branch for each resolution.

    Args:
        module: from images (B, channels, S, S) to outputs (B, ...) whose shape does not depend on S.
        channels: of the images.
        sizes: sides S that images may get, in pixels; the largest is that of the images that are given.
        target: the share of the multiply-adds at the largest size to be used, in the mean over images.

    Raises:
        SpaceError: there are fewer than two sizes, one is below 1, or the target is not above 0 and up to 1.
    """

    name = "resolution"
    shares_norms = False
    branches = True

    def __init__(self, module: nn.Module, channels: int, sizes: Sequence[int], target: float = 0.5) -> None:
        found = tuple(sorted(set(sizes)))
        if len(found) < 2 or found[0] < 1:
            raise SpaceError(
                f"DynamicResolution: sizes are {tuple(sizes)}; allowed: two or more, each at least 1 pixel"
            )
        config = gate_around("DynamicResolution", module, channels, self.name, target)
        config = replace(config, gate=config.gate.replaced(sizes=found))
        look = ResolutionGate(ResolutionConfig(channels, found, target)).look
        super().__init__(config, start=(), features=lambda *_: look, block=module)
        self.sizes = found
        self.smaller = nn.ModuleList(sharing(module) for _ in found[:-1])
        self.resizes = nn.ModuleList(Resize(found[-1], size) for size in found[:-1])
        store_once(self)

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the sizes in words, the smallest first."""
        return tuple(map(str, config.gate["sizes"]))

    def choices(self) -> Tensor:
        """Return one decision for each size."""
        return torch.eye(len(self.sizes), dtype=torch.bool)

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        """Map images (B, channels, S, S) of the largest size to outputs (B, ...).

        Raises:
            SpaceError: the images are of another size.
        """
        images = x.x if isinstance(x, Flow) else x
        side = self.sizes[-1]
        if isinstance(images, Tensor) and tuple(images.shape[-2:]) != (side, side):
            raise SpaceError(
                f"DynamicResolution: found images of {' x '.join(map(str, images.shape[-2:]))} pixels, and "
                f"the largest of sizes is {side}; give squares of that side, or other sizes"
            )
        return super().forward(x, context=real_in_evaluation(self, context))

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Run the module at every size, and weight the outputs by the decision."""
        outputs = torch.stack([self.branch(x, size) for size in range(len(self.sizes))], dim=1)
        weights = decision.weights.view(*decision.weights.shape, *(1 for _ in outputs.shape[2:]))
        return (weights * outputs).sum(1)

    def counted(self, x: Tensor, decision: Decision, context: Context) -> Tensor:
        """Run the module at every size: its statistics at a size are those of all images."""
        return self.masked(x, decision)

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Run the module at one size, by its index."""
        if alternative == len(self.smaller):
            return self.block(x)
        y: Tensor = self.smaller[alternative](self.resizes[alternative](x))
        return y
