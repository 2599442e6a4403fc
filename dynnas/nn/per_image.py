"""The layers of a network that do another thing for another image."""

from __future__ import annotations

from torch import nn

from dynnas.nn.branching import Branching
from dynnas.nn.registry import Activation, Attention


def layers_per_image(module: nn.Module) -> int:
    """Return in how many layers of a module the kernel, or what is run, depends on the image.

    An attention or an activation that weighs channels does not count, as it does not in space files. A layer
    of one's own counts if it has an attribute `input_dependent` that is true.
    """
    return sum(map(_is_per_image, module.modules()))


def _is_per_image(layer: nn.Module) -> bool:
    if isinstance(layer, Branching):
        return layer.can_branch
    return bool(getattr(layer, "input_dependent", False)) and not isinstance(layer, Attention | Activation)
