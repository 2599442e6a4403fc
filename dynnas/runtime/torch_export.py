"""Networks as torch's exported programs: for one image with real branching at the exits, or for any batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from dynnas.ops import Segment, is_confident, set_strategy
from dynnas.runtime.branching import MaskedNetwork
from dynnas.runtime.cascade import Finished
from dynnas.runtime.folding import fold_batchnorm
from dynnas.runtime.images import blank_images


def to_pt2(network: Finished) -> ExportedProgram:
    """The program for one image, folded, with a `torch.cond` at every exit that skips the rest.

    From `image` (1, channels, resolution, resolution) float32 to logits (1, classes) or, with exits, to a
    pair of these and the index (1,) int64 of the exit taken, the number of exits for the head. The
    networks of a cascade are skipped likewise; in each of them all exits are computed.
    """
    folded = fold_batchnorm(network).cpu()
    thresholds = [place.threshold for place in network.config.exits]
    module = _branching(folded.segments(), thresholds) if thresholds else MaskedNetwork(folded)
    return export(module, (blank_images(network.config),))


def to_pt2_batch(network: Finished) -> ExportedProgram:
    """The program for any batch: every exit is computed, and the first confident one chosen for each image.

    As `to_pt2`, with the batch's size in place of 1.
    """
    folded = fold_batchnorm(network).cpu()
    set_strategy(folded, "conv_first")
    shapes = {"image": {0: Dim("batch")}}
    return export(MaskedNetwork(folded), (blank_images(network.config, 2),), dynamic_shapes=shapes)


class _Last(nn.Module):
    """The last segment, where every image leaves."""

    def __init__(self, segment: Segment, index: int) -> None:
        super().__init__()
        self.body, self.classifier, self.index = segment.body, segment.classifier, index

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(self.body(image)), torch.full((1,), self.index)


class _Inner(nn.Module):
    """A segment, and the `rest` of the network if it is not confident."""

    def __init__(self, segment: Segment, threshold: float, index: int, rest: nn.Module) -> None:
        super().__init__()
        self.body, self.classifier = segment.body, segment.classifier
        self.threshold, self.index, self.rest = threshold, index, rest

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(image)
        logits = self.classifier(features)
        confident = is_confident(logits, self.threshold).all()
        return torch.cond(confident, self._leave, self._go_on, (features, logits))

    def _leave(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        # A branch may not hand out its own input.
        return logits.clone(), torch.full((1,), self.index)

    def _go_on(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        return self.rest(features)


def _branching(segments: Sequence[Segment], thresholds: Sequence[float]) -> nn.Module:
    """Segments that run one after the other until one is confident, decided inside the program."""
    module: nn.Module = _Last(segments[-1], len(thresholds))
    for index in reversed(range(len(thresholds))):
        module = _Inner(segments[index], thresholds[index], index, module)
    return module
