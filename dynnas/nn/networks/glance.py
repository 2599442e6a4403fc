"""GFNet: a glance at the whole image, and a closer look at a part of it (Wang et al. 2020, arXiv:2010.05300).

The image is seen whole at a low resolution first. Where that does not suffice, the maps of this glance say
where to look, and a second network of the same layers sees as many pixels of the image itself there: with
weights of its own, as in the paper. Of the paper's steps there are two, with the classifier that the authors'
code has for light networks: one layer on the features of both looks side by side; here in turn, so that a
channel keeps its place in networks of another width.

Where to look is learned through the crop, not by policy gradient as in the paper: in training its corner lies
between pixels and the crop is interpolated (as by spatial transformers, Jaderberg et al. 2015), in use it is
rounded and the pixels are taken as they are. The place is the mean of positions weighted by a softmax over
the maps: it needs few weights, and a new one looks at the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.network import FocusConfig, NetworkConfig, SlotConfig
from dynnas.nn.layers.initial import linear
from dynnas.nn.networks.multiscale import through

Call = Callable[[str, SlotConfig, Any], Any]


class Focus(nn.Module):
    """Finds where to look: a score for every position, and their weighted mean."""

    def __init__(self, config: FocusConfig) -> None:
        """Build from its config."""
        super().__init__()
        self.score = linear(config.in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map feature maps (B, C, H, W) to the middle (B, 2) of the part to see.

        It is given down and right, from 0 to 1.
        """
        weights = self.score(x.flatten(2).transpose(1, 2)).softmax(1)
        height, width = (int(side) for side in x.shape[2:])  # numbers, in graphs too
        return (weights * _middles(height, width, x)).sum(1)


def _middles(height: int, width: int, like: Tensor) -> Tensor:
    """Return the middles of every position of maps: (H * W, 2)."""
    down, right = (
        (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count for count in (height, width)
    )
    places = (down[:, None].expand(height, width), right.expand(height, width))
    return torch.stack(places, dim=2).flatten(0, 1)


def corner(middle: Tensor, given: int, size: int) -> Tensor:
    """Return the corner (B, 2), in pixels, of a part of `size` around `middle` (B, 2) inside the image."""
    return (middle * given - size / 2).clamp(0, given - size)


def first_pixel(middle: Tensor, given: int, size: int) -> Tensor:
    """Return the corner on a whole pixel: (B, 2) int64."""
    return corner(middle.float(), given, size).round().long()


def cut_out(x: Tensor, middle: Tensor, size: int, exact: bool) -> Tensor:
    """Cut a part (B, C, size, size) out of images (B, C, R, R), around `middle` (B, 2).

    With `exact` it consists of the image's own pixels; without, gradients reach `middle`, and where the part
    begins between two pixels it is interpolated.
    """
    channels, given = x.shape[1:3]
    places = torch.arange(size, device=x.device)
    if not exact:
        wanted = corner(middle.float(), given, size)[:, :, None] + places
        near = F.relu(1 - (wanted[..., None] - torch.arange(given, device=x.device)).abs()).to(x.dtype)
        return near[:, None, 0] @ x @ near[:, None, 1].transpose(2, 3)
    rows, columns = (first_pixel(middle, given, size)[:, :, None] + places).unbind(1)
    lines = x.gather(2, rows[:, None, :, None].expand(-1, channels, -1, given))
    return lines.gather(3, columns[:, None, None, :].expand(-1, channels, size, -1))


def look_twice(
    config: NetworkConfig, call: Call, x: Tensor, small: Tensor, exact: bool
) -> tuple[Tensor, Tensor]:
    """Return the logits (B, classes) of the glance and of the head; everything is computed for all images.

    Args:
        config: with a glance. call: runs a slot.
        x: images (B, C, R, R). small: the same as the glance sees them.
        exact: as in `cut_out`.
    """
    maps = glance_at(config, call, small)
    (place,) = config.exits
    both = look_closer(config, call, x, maps, exact)
    return call(place.slot, place.config, maps), call(config.head_slot, config.head, both)


def glance_at(config: NetworkConfig, call: Call, small: Tensor) -> Tensor:
    """Return the maps (B, C', h, w) that a classifier reads of small images."""
    return _read(through(config.looking, call, small))


def look_closer(config: NetworkConfig, call: Call, x: Tensor, maps: Tensor, exact: bool) -> Tensor:
    """Return the maps (B, 2 C', h, w) of the glance and of the part of images `x` that they point to.

    Their channels take turns.
    """
    assert config.glance is not None
    (slot, where), *closer = config.focusing
    part = cut_out(x, call(slot, where, maps), config.glance.size, exact)
    return torch.stack((maps, _read(through(closer, call, part))), 2).flatten(1, 2)


def _read(maps: Tensor | Sequence[Tensor]) -> Tensor:
    return maps if isinstance(maps, Tensor) else maps[-1]


class _Step(nn.Module):
    """A part of a finished network: it runs modules by slots and packs image and maps as one tensor."""

    def __init__(self, config: NetworkConfig, slots: dict[str, nn.Module]) -> None:
        super().__init__()
        assert config.glance is not None
        self.config = config
        self._slots = slots
        self.parts = nn.ModuleList(slots.values())
        side = config.glance.size
        for stride in (config.stem.stride, *(block.stride for _, block in config.blocks)):
            side = -(-side // stride)
        self._maps = (config.blocks[-1][1].read_channels, side, side)
        self._image = (config.channels, config.resolution, config.resolution)

    def call(self, slot: str, _: SlotConfig, x: Any) -> Any:
        return self._slots[slot](x)

    def unpacked(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image (B, C, R, R) and the maps of the glance."""
        channels, side, _ = self._image
        image, maps = packed[:, : channels * side**2], packed[:, channels * side**2 :]
        return image.reshape(-1, *self._image), maps.reshape(-1, *self._maps)


class GlanceStep(_Step):
    """Maps images (B, C, R, R) to the input of the next step and of the classifier between."""

    def __init__(self, config: NetworkConfig, slots: dict[str, nn.Module], resize: nn.Module) -> None:
        super().__init__(config, slots)
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, R, R) to image and maps packed, (B, numbers)."""
        maps = glance_at(self.config, self.call, self.resize(x))
        return torch.cat((x.flatten(1), maps.flatten(1)), dim=1)


class GlanceClassifier(_Step):
    """Maps the output of a `GlanceStep` to logits (B, classes)."""

    def forward(self, packed: Tensor) -> Tensor:
        """Map (B, numbers) to logits (B, classes)."""
        (place,) = self.config.exits
        return self.call(place.slot, place.config, self.unpacked(packed)[1])


class FocusStep(_Step):
    """Maps the output of a `GlanceStep` to the maps of both looks."""

    def forward(self, packed: Tensor) -> Tensor:
        """Map (B, numbers) to the maps (B, 2 C', h, w) of both looks."""
        image, maps = self.unpacked(packed)
        return look_closer(self.config, self.call, image, maps, exact=True)
