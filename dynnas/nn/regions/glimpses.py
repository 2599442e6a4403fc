"""Glimpses: a recurrent network that sees an image by small patches, and learns where to look next (RAM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.nn.context import Context, Contextual
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.draw import Draw
from dynnas.nn.gates.estimators import draw_normal
from dynnas.nn.gates.mode import GateMode

SPREAD = 0.15
"""Standard deviation of places in training, where half of an image is 1; the paper searched below 0.5."""


class GlimpseSensor(nn.Module):
    """Cuts square patches out of an image around a place, each twice as wide as the one before.

    All are brought to the size of the first by the means of pixels (the retina of section 3.1). A place is
    (y, x), from (-1, -1) at the top left corner over (0, 0) in the middle to (1, 1); outside of the image lie
    zeros. Nothing else of the image is read.

    Args:
        size: side of the first patch, in pixels. scales: number of patches.

    Raises:
        SpaceError: a number is below 1.
    """

    def __init__(self, size: int, scales: int = 1) -> None:
        super().__init__()
        if size < 1 or scales < 1:
            raise SpaceError(f"GlimpseSensor: size is {size} and scales is {scales}; allowed: 1 or more")
        self.size, self.scales = size, scales

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Map images (B, C, H, W) and places (B, 2) to patches (B, scales * C, size, size)."""
        widest = self.size * 2 ** (self.scales - 1)
        before, after = widest // 2, widest - widest // 2
        padded = F.pad(x, (before, after, before, after))
        y, x_place = (
            torch.floor((place[:, axis : axis + 1] + 1) / 2 * x.shape[2 + axis]).long() for axis in (0, 1)
        )
        found = []
        for scale in range(self.scales):
            width = self.size * 2**scale
            start = before - width // 2
            patch = _cut(padded, y + start, x_place + start, width)
            found.append(F.avg_pool2d(patch, 2**scale) if scale else patch)
        return torch.cat(found, dim=1)


def _cut(x: Tensor, top: Tensor, left: Tensor, width: int) -> Tensor:
    """Return the squares (B, C, width, width) of images (B, C, H, W) from their corners on, (B, 1) each."""
    inside = torch.arange(width, device=x.device)
    pixels = (top + inside)[:, :, None] * x.shape[3] + (left + inside)[:, None]
    flat = pixels.flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, flat).unflatten(2, (width, width))


class GlimpseRNN(EarlyExits):
    """The recurrent attention model: glimpses of an image, a state, and the place of the next glimpse.

    From the state h, which is 0 at first, follows where to look: around tanh(L h) with a fixed spread in
    training, just there in evaluation. With the patches r and the place l of a glimpse (Mnih et al. 2014,
    arXiv:1406.6247, sections 3.1 and 4)

        g = ReLU(A ReLU(P r) + B ReLU(Q l))
        h = ReLU(C h + D g)

    and the answer is a linear layer on the last state. The loss teaches all but the place; that learns by
    `dynnas.training`'s `policy_gradient`, with the reward that the state before the draw expected.

    With `exits` one classifier looks at the state after each glimpse, and an image leaves where it is sure
    enough: further glimpses are not run. A graph for one image then has an `If` behind each.

    Args:
        shape: (C, H, W) of the images.
        outputs: numbers for each image, such as classes.
        size: side of the smallest patch, in pixels. scales: number of patches of a glimpse.
        glimpses: number of them.
        hidden: numbers that patches and places are first mapped to. units: numbers of the state.
        spread: standard deviation of places in training, where half of the image is 1.
        exits: whether images may leave before the last glimpse.
        threshold: how sure an exit must be, as in `EarlyExits`.

    Raises:
        SpaceError: a number is below 1, or the spread is not above 0.
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, *, size: int = 8, scales: int = 1, glimpses: int = 6,
        hidden: int = 128, units: int = 256, spread: float = SPREAD, exits: bool = False,
        threshold: float = 0.8,
    ) -> None:  # fmt: skip
        if min(glimpses, hidden, units) < 1 or not spread > 0:
            raise SpaceError(
                f"GlimpseRNN: glimpses is {glimpses}, hidden {hidden}, units {units}, spread {spread}; "
                "allowed: 1 or more, 1 or more, 1 or more, above 0"
            )
        core = _Core(GlimpseSensor(size, scales), shape[0], hidden, units)
        stages = [_Glimpse(core, shape, spread) for _ in range(glimpses)]
        head = _Head(units, outputs)
        super().__init__(
            stages, [head if exits or stage is stages[-1] else None for stage in stages], threshold=threshold
        )
        self.units = units

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, C, H, W) to outputs as `EarlyExits` does."""
        state = x.new_zeros((x.shape[0], self.units))
        return super().forward(torch.cat([x.flatten(1), state], dim=1), context=context)

    def places(self, x: Tensor) -> Tensor:
        """Return where images (B, C, H, W) are looked at in evaluation, (y, x) of each: (B, glimpses, 2)."""
        state, found = x.new_zeros((x.shape[0], self.units)), []
        for stage in self.stages:
            assert isinstance(stage, _Glimpse)
            found.append(stage.core.mean(state))
            state = stage.core(x, found[-1], state)
        return torch.stack(found, dim=1)


class _Core(nn.Module):
    """The glimpse network, the core and the location network, which all glimpses share."""

    def __init__(self, sensor: GlimpseSensor, channels: int, hidden: int, units: int) -> None:
        super().__init__()
        self.sensor = sensor
        # A layer on whole patches: networks with smaller ones share its middle.
        self.patch = nn.Conv2d(sensor.scales * channels, hidden, sensor.size)
        self.place = nn.Linear(2, hidden)
        self.what, self.where = nn.Linear(hidden, units), nn.Linear(hidden, units)
        self.state, self.glimpse = nn.Linear(units, units), nn.Linear(units, units)
        self.locate, self.expect = nn.Linear(units, 2), nn.Linear(units, 1)

    def forward(self, x: Tensor, place: Tensor, state: Tensor) -> Tensor:
        """Map images, places (B, 2) and states (B, units) to the next states."""
        what = F.relu(self.patch(self.sensor(x, place))).flatten(1)
        glimpse = F.relu(self.what(what) + self.where(F.relu(self.place(place))))
        return F.relu(self.state(state) + self.glimpse(glimpse))

    def mean(self, state: Tensor) -> Tensor:
        """Return the middle of where to look, (B, 2); the state learns nothing by it."""
        return torch.tanh(self.locate(state.detach()))


class _Glimpse(Contextual):
    """One glimpse, on rows of an image and the state."""

    def __init__(self, core: _Core, shape: tuple[int, int, int], spread: float) -> None:
        super().__init__()
        self.core, self.shape, self.spread = core, shape, spread

    def forward(self, packed: Tensor, *, context: Context | None = None) -> Tensor:
        pixels = math.prod(self.shape)
        image, state = packed[:, :pixels], packed[:, pixels:]
        place = self.core.mean(state)
        if self.training:
            place = self._drawn(place, state, context or self.context)
        return torch.cat([image, self.core(image.unflatten(1, self.shape), place, state)], dim=1)

    def _drawn(self, mean: Tensor, state: Tensor, context: Context) -> Tensor:
        """Draw places (B, 2) around their middles, and record how likely they were."""
        noise = context[GateMode].sample(draw_normal, mean)
        place = (mean + self.spread * noise).detach()
        if context.trace is not None and context.trace.wants(Draw):
            policy = torch.distributions.Normal(mean, self.spread)
            expected = self.core.expect(state.detach())[:, 0]
            context.trace.record(Draw(policy.log_prob(place).sum(1), expected))
        return place.clamp(-1, 1)


class _Head(nn.Module):
    """A linear layer on the state."""

    def __init__(self, units: int, outputs: int) -> None:
        super().__init__()
        self.units = units
        self.linear = nn.Linear(units, outputs)

    def forward(self, packed: Tensor) -> Tensor:
        return self.linear(packed[:, -self.units :])
