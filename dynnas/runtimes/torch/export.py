"""Networks as torch's exported programs: for one image with real branching at the exits, or for any batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from dynnas.errors import TargetError
from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.exits.exits import Leaving, answer, is_confident_at
from dynnas.nn.networks.network import Network, Segment
from dynnas.runtimes.branching import MaskedNetwork
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.plain import blank_images


def to_pt2(network: Finished) -> ExportedProgram:
    """Return the program for one image, folded, with a `torch.cond` at every exit that skips the rest.

    From `image` (1, channels, resolution, resolution) float32 to logits (1, classes) or, with exits, to a
    pair of these and the index (1,) int64 of the exit taken, the number of exits for the head. The
    networks of a cascade are skipped likewise; in each of them all exits are computed.
    """
    folded = fold_batchnorm(network).cpu()
    module = _branching(folded.segments()) if network.config.exits else MaskedNetwork(folded)
    return export(module, (blank_images(network.config),))


def to_pt2_batch(network: Finished) -> ExportedProgram:
    """Return the program for any batch: every exit is computed, and the first confident one chosen.

    As `to_pt2`, with the batch's size in place of 1.

    Raises:
        TargetError: the network of one's own class is recorded for one size of batch alone.
    """
    folded = fold_batchnorm(network, Context(ConvMode("conv_first"))).cpu()
    shapes = {"image": {0: Dim("batch")}}
    try:
        return export(MaskedNetwork(folded), (blank_images(network.config, 2),), dynamic_shapes=shapes)
    except Exception as error:
        if isinstance(network, Network | Cascade):  # ours: what is wrong is no user's
            raise
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise TargetError(
            f"torch.export: the network has no program for any number of images: {said}; a class of your own "
            "may use len(x), which a program keeps as a number: use x.shape[0]"
        ) from error


class _Last(nn.Module):
    """The last segment, where every image leaves."""

    def __init__(self, segment: Segment, index: int) -> None:
        super().__init__()
        self.body, self.classifier, self.index = segment.body, segment.classifier, index

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(self.body(image)), torch.full((1,), self.index)


class _Inner(nn.Module):
    """A segment, and the `rest` of the network if its exit is not sure enough."""

    def __init__(self, segment: Segment, place: Leaving, index: int, rest: nn.Module) -> None:
        super().__init__()
        self.body, self.classifier = segment.body, segment.classifier
        self.place, self.index, self.rest = place, index, rest

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(image)
        output = self.classifier(features)
        confident = is_confident_at(self.place, output).all()
        return torch.cond(
            confident, self._leave, self._go_on, (features, answer(output, self.place.criterion))
        )

    def _leave(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        # A branch may not hand out its own input.
        return logits.clone(memory_format=torch.contiguous_format), torch.full((1,), self.index)

    def _go_on(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        return self.rest(features)


def _branching(segments: Sequence[Segment]) -> nn.Module:
    """Return segments that run one after the other until one is sure enough; the program itself decides."""
    module: nn.Module = _Last(segments[-1], len(segments) - 1)
    for index, segment in reversed(list(enumerate(segments[:-1]))):
        assert segment.exit is not None
        module = _Inner(segment, segment.exit, index, module)
    return module
