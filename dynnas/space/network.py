"""What one concrete network looks like: frozen values, no torch.

A `Space` turns an `Architecture` into a `NetworkConfig`; `dynnas.ops` builds a torch module from it. Every
part of a network that owns weights is a *slot* with a stable name (`stem`, `stage2.0`, `exits.stage1`,
`head`), by which the supernet shares its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynnas.space.vocabulary import FIXED_OPS


@dataclass(frozen=True)
class StemConfig:
    """The first convolution (kernel x kernel, batch norm, activation), always static."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: str


@dataclass(frozen=True)
class BlockConfig:
    """One block of a stage.

    `expand` is 1.0 for blocks without an expansion; `experts`, `group` and `splits` are None where the op has
    none, and `rank` where the block has none.
    """

    block: str
    in_channels: int
    out_channels: int
    stride: int
    kernel: int
    expand: float
    op: str
    experts: int | None
    group: int | None
    attention: str
    activation: str
    rank: float | None = None
    splits: int | None = None


@dataclass(frozen=True)
class ExitConfig:
    """A classifier after an inner block: 1x1 convolution, batch norm, activation, pooling, linear."""

    in_channels: int
    width: int
    activation: str
    classes: int


@dataclass(frozen=True)
class HeadConfig:
    """The final classifier: as an exit, with dropout; `width` 0 is for pooling the last block directly."""

    in_channels: int
    width: int
    activation: str
    dropout: float
    classes: int


SlotConfig = StemConfig | BlockConfig | ExitConfig | HeadConfig


@dataclass(frozen=True)
class ExitPlace:
    """An exit: the slot after which it stands, and the confidence (largest softmax) that leaves there."""

    name: str
    after: str
    config: ExitConfig
    threshold: float

    @property
    def slot(self) -> str:
        """The name under which the supernet shares this exit's weights."""
        return f"exits.{self.name}"


@dataclass(frozen=True)
class NetworkConfig:
    """A network: input (`channels`, `resolution`, `resolution`), stem, blocks and exits in order, head."""

    channels: int
    classes: int
    resolution: int
    stem: StemConfig
    blocks: tuple[tuple[str, BlockConfig], ...]
    exits: tuple[ExitPlace, ...]
    head: HeadConfig

    @property
    def dynamic(self) -> bool:
        """Whether any weight or the depth depends on the input image."""
        return bool(self.exits) or any(block.op not in FIXED_OPS for _, block in self.blocks)

    def slots(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Every slot with its config: stem, blocks, exits, head."""
        exits = tuple((place.slot, place.config) for place in self.exits)
        return (("stem", self.stem), *self.blocks, *exits, ("head", self.head))
