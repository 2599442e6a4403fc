"""DynConv: where in the image a block is run (Verelst and Tuytelaars 2020, arXiv:1912.03203), by tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.facts import LOCAL, Requirement
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.features import GateFeatures
from dynnas.nn.gates.gate import OPEN_BIAS, Decision, Gated
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.kernels.kernel import Kernel
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import ConvUnit
from dynnas.space.knob import Knob, whole


class TileFeatures(GateFeatures):
    """Gate features of each tile: a 3x3 convolution over the tiles' means is added to FC(GAP)."""

    def __init__(self, in_channels: int, start: Sequence[float], target: float) -> None:
        """`start` are the logits of a tile."""
        super().__init__(in_channels, start, target)
        shape = ConvShape(in_channels, self.expand.in_features, 3)
        self.around = ConvUnit(Static(shape), nn.Identity())

    def forward(self, tiles: Tensor) -> Tensor:
        """Map the tiles' means (B, C, T, T) to logits (B, T * T, L)."""
        whole = self.reduce(tiles.mean((2, 3), keepdim=True)).flatten(1)
        v = self.around(tiles).flatten(2).transpose(1, 2) + whole[:, None]
        return self.logits(F.relu(self.told(v)))


@dataclass(frozen=True)
class Tile:
    """A tile along one side of an image.

    Attributes:
        own: its pixels. read: those of its window, which a block sees to compute it. inside: its pixels in
            its window.
    """

    own: slice
    read: slice
    inside: slice


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of an image.

    Attributes:
        tiles: in order. length: pixels that are read for each of them.
    """

    tiles: tuple[Tile, ...]
    length: int

    @staticmethod
    def cut(pixels: int, tiles: int, reach: int) -> Axis:
        """Cut a side for a block in which a pixel depends on those up to `reach` away.

        Windows end where the image ends: beyond it a block sees zeros at each of its convolutions, which
        zeros around a window's input would not give. So that all are of one length, some read further than
        they need.
        """
        bounds = [-(-tile * pixels // tiles) for tile in range(tiles + 1)]
        pairs = list(pairwise(bounds))
        length = max(min(pixels, end + reach) - max(0, start - reach) for start, end in pairs)
        found = []
        for start, end in pairs:
            first = min(max(0, start - reach), pixels - length)
            read, inside = slice(first, first + length), slice(start - first, end - first)
            found.append(Tile(slice(start, end), read, inside))
        return Axis(tuple(found), length)


@register_gate("positions")
class Positions(Gated):
    """Runs the block in some tiles of an image; elsewhere its input stands for its output.

    The paper decides for every pixel, which only a kernel of its own could execute (sections 3.2 and 4.4 of
    the paper); whole tiles, read with what lies around them as far as the block's convolutions reach, run
    as a batch of small images. An image is computed as a whole once its tiles and their surroundings
    have as many pixels. Only convolutions by the same weights everywhere can be
    computed so: no attention, no dynamic kernel.
    """

    name = "positions"
    capacity = 30
    paper = "Verelst and Tuytelaars 2020, arXiv:1912.03203"
    keeps_shape = True
    reads_others = False
    knobs = (Knob("tiles", whole(2, 8), "tiles that the image is cut into, along each side", default=2),)
    requires = (
        *Gated.requires,
        Requirement(
            ("op", "attention", "activation"),
            LOCAL,
            "it looks at the whole image, and a tile is to be computed from what lies around it",
        ),
    )
    shares_norms = False
    branches = False

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the block changes the shape, or looks at the whole image, or the config does not say
                how many tiles there are.
        """
        super().__init__(config, start=(0.0, OPEN_BIAS), features=TileFeatures)
        self.side = int(config.gate["tiles"])
        # Convolutions one after the other: side by side, all but one of them are 1x1.
        self.reach = sum(part.shape.kernel // 2 for part in self.block.modules() if isinstance(part, Kernel))

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives, by the number of tiles; two numbers may cost the same."""
        return tuple(f"{tiles} tiles" for tiles in range(int(config.gate["tiles"]) ** 2 + 1))

    def choices(self) -> Tensor:
        """Return decisions for the first tiles, which stand for any others."""
        tiles = self.side**2
        return torch.arange(tiles) < torch.arange(tiles + 1)[:, None]

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        """Decide from the block's input (B, C, H, W)."""
        logits = self.gate(_means(seen, self.side))
        rows = self.chooser(logits, context=context)
        run = rows[:, :, 1]
        return Decision(run, usage_of_parts(run), likelihood=self.chooser.likelihood(logits, rows, context))

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Compute all positions, and weight each by the decision."""
        run = decision.weights.unflatten(1, (self.side, self.side))
        for axis in (1, 2):
            run = run.index_select(axis, _tile_of_pixels(x, axis + 1, self.side))
        return run[:, None] * self.block(x) + (1 - run[:, None]) * x

    def alone(self, x: Tensor, choice: Tensor, decision: Decision) -> Tensor:
        """Run the chosen tiles of all images together."""
        return self.run(x, choice.expand(len(x), -1))

    def together(self, x: Tensor, decision: Decision, context: Context = PLAIN) -> Tensor:
        """Run the tiles of all images together: images need not choose alike."""
        return self.run(x, decision.choice, counted=context[GateMode].execution == "counted")

    def run(self, x: Tensor, choice: Tensor, counted: bool = False) -> Tensor:
        """Run the block in the tiles that each image of (B, C, H, W) chose, (B, tiles) bool.

        Args:
            counted: norms count what passes them, and are to see the tiles of all images alike.
        """
        height, width = x.shape[2:]
        down, across = (Axis.cut(pixels, self.side, self.reach) for pixels in (height, width))
        y = x.clone()
        whole = (choice.sum(1) * down.length * across.length >= height * width) & choice.any(1)
        if not counted and bool(whole.any()):
            rows, some = whole.nonzero().flatten().to(x.device), choice[whole].to(x)
            y[rows] = self.masked(x[rows], Decision(some, some))
            choice = choice & ~whole[:, None]
        mine = [rows.nonzero().flatten().to(x.device) for rows in choice.unbind(1)]
        places = [
            (rows, v, h)
            for rows, (v, h) in zip(mine, product(down.tiles, across.tiles), strict=True)
            if len(rows)
        ]
        if places:
            found = self.block(torch.cat([x[rows][:, :, v.read, h.read] for rows, v, h in places]))
            parts = found.split([len(rows) for rows, *_ in places])
            for part, (rows, v, h) in zip(parts, places, strict=True):
                y[rows, :, v.own, h.own] = part[:, :, v.inside, h.inside]
        return y


def _tile_of_pixels(x: Tensor, axis: int, side: int) -> Tensor:
    """Return which tile each pixel along an axis of `x` belongs to: (pixels,) int64."""
    pixels = x.shape[axis]
    return torch.div(torch.arange(pixels, device=x.device) * side, pixels, rounding_mode="floor")


def _means(x: Tensor, side: int) -> Tensor:
    """Return the means (B, C, side, side) of the tiles of (B, C, H, W); 0 for one without pixels."""
    tiles = torch.arange(side, device=x.device)[:, None]
    down, across = ((_tile_of_pixels(x, axis, side) == tiles).to(x.dtype) for axis in (2, 3))
    down, across = (part / part.sum(1, keepdim=True).clamp(min=1) for part in (down, across))
    return down @ x @ across.t()


def usage_of_parts(run: Tensor) -> Tensor:
    """Count the parts, such as tiles: turn weights (B, parts) into rows (B, parts + 1) over their number.

    The gradient is that of a cost in proportion to the parts.
    """
    parts = run.shape[1]
    number = run.sum(1, keepdim=True)
    usage = F.relu(1 - (number.detach() - torch.arange(parts + 1, device=run.device)).abs())
    rate = (number - number.detach()) / parts
    return usage + F.pad(rate, (parts, 0)) - F.pad(rate, (0, parts))
