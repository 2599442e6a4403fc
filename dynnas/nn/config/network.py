"""The config of one concrete network, as frozen values.

A space of a file turns an `Architecture` into a `NetworkConfig`, from which a torch module is built. Every
part of a network that owns weights is a *slot* with a stable name (`stem`, `stage2.0`, `exits.stage1`,
`head`), by which the supernet shares its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dynnas.nn.config.choice import Choice
from dynnas.nn.config.scales import Scales

RECURRENT_UNITS = 10
"""Input size and hidden units of the LSTM (SkipNet, section 3.2)."""

STATIC, NONE, RELU = Choice("static"), Choice("none"), Choice("relu")

RESOLUTION_SLOT = "resolution"
"""Slot name of the predictor that chooses the resolution of each image."""

FOCUS_SLOT = "focus"
"""Slot name of the predictor that says where to look closer."""

GLANCE_EXIT = "glance"


@dataclass(frozen=True)
class StemConfig:
    """The first convolution (kernel x kernel, batch norm, activation), always static."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    activation: str


@dataclass(frozen=True)
class PolicyConfig:
    """The network that makes an embedding of the image, `width` numbers, for gates to read.

    `classes` are those that it is taught to tell apart.
    """

    in_channels: int
    width: int
    classes: int


@dataclass(frozen=True)
class RecurrentConfig:
    """The LSTM of `units` hidden units that gates share.

    The image, of `in_channels` channels, passes it unchanged.
    """

    in_channels: int
    units: int


@dataclass(frozen=True)
class BlockConfig:
    """One block of a stage.

    Attributes:
        block: its kind, with the knobs of that kind.
        in_channels: channels of its input. out_channels: of its output. stride: pixels. kernel: pixels along
            each side of its spatial convolutions.
        op: how the convolutions' kernels depend on the image. attention, activation: as in space files.
        gate: what decides for each image how much of the block is run. Its knobs are `target`, the share of
            the block's multiply-adds to be used, `reads`, what it looks at, and where that is the embedding
            of the policy network, `policy_width`, the length of that; and the gate's own.
        scales: for multi-scale layers alone (block `msd`), whose channels are those of all scales packed
            into one tensor.
    """

    block: Choice
    in_channels: int
    out_channels: int
    stride: int
    kernel: int
    op: Choice = STATIC
    attention: Choice = NONE
    activation: Choice = RELU
    gate: Choice = NONE
    scales: Scales | None = None

    @property
    def gated(self) -> bool:
        """Return whether an image decides how much of the block it runs."""
        return self.gate != NONE

    @property
    def gate_reads(self) -> str:
        """Return what the gate looks at; the default is the block's own input."""
        return str(self.gate.get("reads", "block"))

    def without_gate(self) -> BlockConfig:
        """Return the same block without its gate, so that every image runs all of it."""
        return replace(self, gate=NONE)

    @property
    def read_channels(self) -> int:
        """Return how many channels a classifier behind the block reads.

        It reads all, or those of the coarsest of several scales.
        """
        return self.scales.coarsest if self.scales else self.out_channels


@dataclass(frozen=True)
class ExitConfig:
    """A classifier after an inner block: 1x1 convolution, batch norm, activation, pooling, linear.

    `criterion` is how sure it is of an image; `learned` and `policy` have weights of their own.
    """

    in_channels: int
    width: int
    activation: str
    classes: int
    criterion: str = "confidence"


@dataclass(frozen=True)
class HeadConfig:
    """The final classifier: as an exit, with dropout; `width` 0 is for pooling the last block directly."""

    in_channels: int
    width: int
    activation: str
    dropout: float
    classes: int


@dataclass(frozen=True)
class ResolutionConfig:
    """The predictor that chooses for each image the resolution at which the whole network runs.

    `sizes` are these, the lowest first; `target` is the share of the largest one's multiply-adds to be used.
    """

    in_channels: int
    sizes: tuple[int, ...]
    target: float

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Return the names of the resolutions, as a gate names its alternatives."""
        return tuple(map(str, self.sizes))

    @property
    def words(self) -> str:
        """Return the sizes in words, as in `14, 20 or 28`."""
        return f"{', '.join(self.alternatives[:-1])} or {self.alternatives[-1]}"


@dataclass(frozen=True)
class GlanceConfig:
    """The module that shrinks an image to a glance: from `given` to `size` pixels along each side."""

    in_channels: int
    given: int
    size: int


@dataclass(frozen=True)
class FocusConfig:
    """The predictor that finds in the maps of a glance where to look closer."""

    in_channels: int


SlotConfig = (
    StemConfig
    | PolicyConfig
    | RecurrentConfig
    | BlockConfig
    | ExitConfig
    | HeadConfig
    | ResolutionConfig
    | GlanceConfig
    | FocusConfig
)


@dataclass(frozen=True)
class ExitPlace:
    """An exit: the slot after which it stands, and the confidence from which an image leaves there."""

    name: str
    after: str
    config: ExitConfig
    threshold: float

    @property
    def slot(self) -> str:
        """Return the name under which the supernet shares this exit's weights."""
        return f"exits.{self.name}"

    @property
    def criterion(self) -> str:
        """Return the confidence criterion of the exit."""
        return self.config.criterion

    @property
    def task(self) -> None:
        """Return None: the exit tells classes apart."""
        return None


@dataclass(frozen=True)
class NetworkConfig:
    """A network: its input, stem, blocks and exits in order, and head.

    Images are (`channels`, `resolution`, `width`), squares where there is no width.
    It has a `policy` network, and a `recurrent` one, where a gate reads it.
    With a `choice` of resolutions, `resolution` is the largest; there are then neither exits nor gates. With
    a `glance` it is the size of the image whose parts are seen, the exit is behind the blocks, and no block
    has a gate.
    """

    channels: int
    classes: int
    resolution: int
    stem: StemConfig
    blocks: tuple[tuple[str, BlockConfig], ...]
    exits: tuple[ExitPlace, ...]
    head: HeadConfig
    policy: PolicyConfig | None = None
    recurrent: RecurrentConfig | None = None
    choice: ResolutionConfig | None = None
    glance: GlanceConfig | None = None
    width: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of an image."""
        return self.channels, self.resolution, self.width or self.resolution

    @property
    def dynamic(self) -> bool:
        """Return whether any weight, or what is run, depends on the input image."""
        from dynnas.nn.kernels.kernel import KERNELS  # needs torch, which values do not

        return self.branches or any(KERNELS[block.op.name].input_dependent for _, block in self.blocks)

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of the exits in order, and `head`: by which of them an image may leave."""
        return (*(place.name for place in self.exits), "head")

    @property
    def branches(self) -> bool:
        """Return whether images may differ in what they run, by exits or by gates."""
        return bool(self.exits) or self.decides

    @property
    def decides(self) -> bool:
        """Return whether a gate decides for each image what it runs of a block, or at which resolution."""
        return bool(self.gated) or self.choice is not None

    @property
    def gated(self) -> tuple[tuple[str, BlockConfig], ...]:
        """Return the blocks with a gate and their slots, in the order in which they run."""
        return tuple((slot, block) for slot, block in self.blocks if block.gated)

    def without_gates(self) -> NetworkConfig:
        """Return the same network without gates, at the largest resolution."""
        blocks = tuple((slot, block.without_gate()) for slot, block in self.blocks)
        return replace(self, blocks=blocks, policy=None, recurrent=None, choice=None)

    @property
    def sizes(self) -> str:
        """Return in words at which resolutions the network sees an image."""
        if self.choice:
            return self.choice.words
        if self.width is not None:
            return f"{self.resolution} x {self.width}"
        return f"{self.glance.size} of {self.resolution}" if self.glance else str(self.resolution)

    def without_glance(self) -> NetworkConfig:
        """Return the same network without a glance: it sees the whole image once, at its resolution."""
        if self.glance is None:
            return self
        head = replace(self.head, in_channels=self.blocks[-1][1].read_channels)
        return replace(self, exits=(), head=head, glance=None)

    def at(self, resolution: int) -> NetworkConfig:
        """Return the same network at one resolution for all images."""
        return replace(self, resolution=resolution, choice=None)

    @property
    def before(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Return the slots that run before the first block, in order."""
        policy = (("policy", self.policy),) if self.policy else ()
        recurrent = (("recurrent", self.recurrent),) if self.recurrent else ()
        return (*recurrent, *policy, ("stem", self.stem))

    def slots(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Return every slot with its config: before the blocks, blocks, exits, head, and the resolution's.

        What looks closer after a glance has slots of its own: where, stem and blocks.
        """
        exits = tuple((place.slot, place.config) for place in self.exits)
        choice = ((RESOLUTION_SLOT, self.choice),) if self.choice else ()
        return (*self.looking, *exits, *self.focusing, (self.head_slot, self.head), *choice)

    @property
    def looking(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Return the slots before the blocks, and the blocks."""
        return (*self.before, *self.blocks)

    @property
    def focusing(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Return the predictor of where to look after a glance, and the stem and blocks for that part.

        It is empty without a glance.
        """
        if self.glance is None:
            return ()
        where = FocusConfig(self.blocks[-1][1].read_channels)
        return ((FOCUS_SLOT, where), *((f"{FOCUS_SLOT}.{slot}", each) for slot, each in self.looking))

    @property
    def head_slot(self) -> str:
        """Return the head's slot; the head reads the maps of both looks where there is a glance."""
        return "head" if self.glance is None else f"{FOCUS_SLOT}.head"
