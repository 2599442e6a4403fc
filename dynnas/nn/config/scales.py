"""The feature maps that multi-scale layers pass on: their resolutions, and how many channels each has.

Scale 0 is the finest; each further one has half the side and twice the channels. A layer adds channels to
every scale that it computes and keeps those that were there (dense connections; MSDNet, Huang 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Grown:
    """The channels that layers of one stage have added: `growth` * 2^s each to the scales s >= `finest`."""

    layers: int
    growth: int
    finest: int

    def channels(self, scale: int) -> int:
        """Return how many channels of one scale they are."""
        return self.layers * self.added(scale)

    def added(self, scale: int) -> int:
        """Return how many channels one layer adds to one scale."""
        return self.growth * 2**scale if scale >= self.finest else 0


@dataclass(frozen=True)
class Scales:
    """A multi-scale layer: the channels that it finds on each scale, and those that it adds.

    Attributes:
        base: channels that each scale began with; their number is the number of scales.
        grown: what was added since, by each stage in order.
        finest_before: the finest scale that the layer before computed.
        makes: whether the scales must first be made, from a map of `base[0]` channels.
        growth, finest: what the layer adds, as in `Grown`.
        links: `down`, from the next finer scale, or `both`, from the next coarser one too.
        bottleneck: channels of the 1x1 convolution before a convolution, over those which that makes, times
            2^s for a link from scale s; 0 for none.
        keep: part of its channels that each computed scale is brought down to after the layer; 1 for all.
        layer: its number in the stage.
    """

    base: tuple[int, ...]
    grown: tuple[Grown, ...]
    finest_before: int
    makes: bool
    growth: int
    finest: int
    links: str
    bottleneck: int
    keep: float
    layer: int

    @property
    def number(self) -> int:
        """Return the number of scales."""
        return len(self.base)

    def before(self, scale: int) -> int:
        """Return how many channels the layer finds."""
        return self.base[scale] + sum(grown.channels(scale) for grown in self.grown)

    def added(self, scale: int) -> int:
        """Return how many channels it adds."""
        return Grown(1, self.growth, self.finest).added(scale)

    def after(self, scale: int) -> int:
        """Return how many channels it leaves."""
        channels = self.before(scale) + self.added(scale)
        if self.keep == 1 or scale < self.finest:
            return channels
        return max(1, int(self.keep * channels / 2**scale + 1e-9)) * 2**scale

    def with_own(self) -> tuple[Grown, ...]:
        """Return `grown` joined with the channels that this layer adds."""
        own = Grown(1, self.growth, self.finest)
        if self.layer:
            *others, siblings = self.grown
            return (*others, replace(siblings, layers=siblings.layers + 1))
        return (*self.grown, own)

    @property
    def in_channels(self) -> int:
        """Return the channels of the tensor that comes in: a single map, or all scales packed."""
        return self.base[0] if self.makes else self._packed([self.before(s) for s in range(self.number)])

    @property
    def out_channels(self) -> int:
        """Return the channels of all scales packed: as many of the coarsest resolution as hold them."""
        return self._packed([self.after(scale) for scale in range(self.number)])

    @property
    def stride(self) -> int:
        """Return the factor by which the packed tensor is smaller than what comes in."""
        return 2 ** (self.number - 1) if self.makes else 1

    @property
    def coarsest(self) -> int:
        """Return how many channels classifiers read: those of the coarsest scale, packed last."""
        return self.after(self.number - 1)

    def _packed(self, channels: list[int]) -> int:
        return sum(count * 4 ** (self.number - 1 - scale) for scale, count in enumerate(channels))


@dataclass(frozen=True)
class Dense:
    """The settings that a stage of multi-scale layers shares; see `Scales`."""

    scales: int
    growth: int
    finest: int
    links: str
    bottleneck: int
    keep: float

    def layer(self, index: int, in_channels: int, previous: Scales | None) -> Scales:
        """Return layer `index` of the stage, after `previous`, or after a map of `in_channels` channels."""
        if previous is None:
            base = tuple(in_channels * 2**scale for scale in range(self.scales))
            grown: tuple[Grown, ...] = ()
        elif previous.keep < 1:
            base = tuple(previous.after(scale) for scale in range(self.scales))
            # No layers yet, but a place: stages must be as many whatever their depth.
            grown = (Grown(0, previous.growth, previous.finest),)
        else:
            base, grown = previous.base, previous.with_own()
        return Scales(
            base=base,
            grown=grown,
            finest_before=previous.finest if previous else 0,
            makes=previous is None,
            growth=self.growth,
            finest=self.finest,
            links=self.links,
            bottleneck=self.bottleneck,
            keep=self.keep if index == 0 else 1.0,
            layer=index,
        )
