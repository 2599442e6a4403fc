"""Patches of an image, and frames of a video, that are worth a look: the k best by a cheap look at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context, Contextual
from dynnas.nn.gates.estimators import draw_normal
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.regions.top_k import perturbed_top_k, top_k_places

SIGMA, DRAWS = 0.05, 100
"""Spread of the noise, and the number of its draws; the paper's is 0.05, with 500 draws."""

LEAST_NOISE = 0.1
"""Share of the spread that is left when a training ends: without noise there is no gradient."""


class Selection(Contextual):
    """Choose the `count` of some parts that have the largest scores.

    In training what is chosen is a mean over draws of noise, whose gradient reaches the scores, and the noise
    falls as that of gates does (`dynnas.nn.gates.mode`). In evaluation the parts themselves are taken, and
    only they are read. Scores are brought between 0 and 1 for each image, as in the authors' code, so that
    noise means the same for all.

    Args:
        count: k. sigma: spread of the noise at first. draws: of noise for each image.

    Raises:
        ValueError: a number is below 1, or the spread is not above 0.
    """

    def __init__(self, count: int, sigma: float = SIGMA, draws: int = DRAWS) -> None:
        super().__init__()
        if count < 1 or draws < 1 or sigma <= 0:
            raise ValueError(
                f"{type(self).__name__}: count is {count}, draws {draws}, sigma {sigma}; allowed: 1 or more, "
                "1 or more, above 0"
            )
        self.count, self.sigma, self.draws = count, sigma, draws

    def chosen(self, scores: Tensor, context: Context) -> Tensor:
        """Return indicators (B, k, N) of the parts with scores (B, N) in training, and else places (B, k).

        Raises:
            ValueError: there are fewer parts than are to be chosen.
        """
        if scores.shape[1] < self.count:
            raise ValueError(
                f"{type(self).__name__}: {self.count} of {scores.shape[1]} parts are to be chosen; give it "
                "more parts, or a smaller count"
            )
        if not self.training:
            return top_k_places(scores, self.count)
        low, high = scores.min(1, keepdim=True).values, scores.max(1, keepdim=True).values
        scores = (scores - low) / (high - low + 1e-5)
        mode = context[GateMode]
        noise = mode.sample(draw_normal, scores[:, None].expand(-1, self.draws, -1))
        return perturbed_top_k(scores, self.count, noise, self.sigma * max(mode.noise, LEAST_NOISE))


class PatchSelection(Selection):
    """The patches of an image that a scorer finds worth a closer look.

    Differentiable patch selection (Cordonnier et al. 2021, arXiv:2104.03059): a scorer, which may look at the
    image at a lower resolution, gives a score for each cell of a grid, and the square patches around the best
    cells are what the rest of the network sees, in the order of the grid. They reach over their cells and
    over the border, where zeros lie.

    Args:
        scorer: from images (B, C, H, W) to scores (B, 1, h, w), where H and W are multiples of h and w.
        patch: side of a patch, in pixels.
        count: of patches. sigma, draws: see `Selection`.

    Raises:
        ValueError: a number is below 1, or the spread is not above 0.
    """

    def __init__(
        self, scorer: nn.Module, patch: int, count: int, sigma: float = SIGMA, draws: int = DRAWS
    ) -> None:
        super().__init__(count, sigma, draws)
        if patch < 1:
            raise ValueError(f"PatchSelection: patch is {patch}; allowed: 1 or more")
        self.scorer, self.patch = scorer, patch

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Map images (B, C, H, W) to patches (B, count, C, patch, patch)."""
        scores = self.scorer(x)
        rows, columns = scores.shape[2:]
        steps = x.shape[2] // rows, x.shape[3] // columns
        if x.shape[2] % rows or x.shape[3] % columns or max(steps) > self.patch:
            raise ValueError(
                f"PatchSelection: images of {tuple(x.shape[2:])} pixels, scores of {(rows, columns)} places "
                f"and patches of {self.patch} pixels; allowed: a whole number of pixels for each place, and "
                "no more than a patch has"
            )
        padded = self._padded(x, steps)
        chosen = self.chosen(scores.flatten(1), context or self.context)
        if self.training:
            patches = padded.unfold(2, self.patch, steps[0]).unfold(3, self.patch, steps[1])
            return torch.einsum("bkn,bcnij->bkcij", chosen, patches.flatten(2, 3))
        return self._taken(padded, chosen, steps, columns)

    def _padded(self, x: Tensor, steps: tuple[int, int]) -> Tensor:
        """Return the images with zeros around them, so that patches lie around their cells."""
        sides = [side for step in reversed(steps) for side in self._around(step)]
        return F.pad(x, sides)

    def _around(self, step: int) -> tuple[int, int]:
        before = (self.patch - step) // 2
        return before, self.patch - step - before

    def _taken(self, padded: Tensor, places: Tensor, steps: tuple[int, int], columns: int) -> Tensor:
        """Return the patches at places (B, count) alone: (B, count, C, patch, patch)."""
        inside = torch.arange(self.patch, device=padded.device)
        top = torch.div(places, columns, rounding_mode="floor") * steps[0]
        left = torch.remainder(places, columns) * steps[1]
        pixels = (top[:, :, None, None] + inside[:, None]) * padded.shape[3] + left[:, :, None, None] + inside
        flat = pixels.flatten(1)[:, None].expand(-1, padded.shape[1], -1)
        found = padded.flatten(2).gather(2, flat)
        return found.unflatten(2, (self.count, self.patch, self.patch)).transpose(1, 2)


class FrameSelection(Selection):
    """The frames of a video, or parts of any sequence, that a scorer finds worth a closer look.

    As SCSampler does (Korbar et al. 2019, arXiv:1904.04289): a light network scores all frames, and only the
    k best are seen by what follows, in the order of time. There the scorer is trained by itself; here the
    gradient of perturbed top-k reaches it.

    Args:
        scorer: from frames (B * T, ...) to scores (B * T, 1).
        count: of frames. sigma, draws: see `Selection`.

    Raises:
        ValueError: a number is below 1, or the spread is not above 0.
    """

    def __init__(self, scorer: nn.Module, count: int, sigma: float = SIGMA, draws: int = DRAWS) -> None:
        super().__init__(count, sigma, draws)
        self.scorer = scorer

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Map frames (B, T, ...) to the chosen ones, (B, count, ...)."""
        scores = self.scorer(x.flatten(0, 1)).unflatten(0, x.shape[:2]).flatten(1)
        chosen = self.chosen(scores, context or self.context)
        flat = x.flatten(2)
        if self.training:
            return (chosen.to(x.dtype) @ flat).unflatten(2, x.shape[2:])
        return flat.gather(1, chosen[:, :, None].expand(-1, -1, flat.shape[2])).unflatten(2, x.shape[2:])
