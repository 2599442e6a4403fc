"""What one concrete network looks like, as frozen values.

A space of a file turns an `Architecture` into a `NetworkConfig`, from which a torch module is built. Every
part of a network that owns weights is a *slot* with a stable name (`stem`, `stage2.0`, `exits.stage1`,
`head`), by which the supernet shares its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dynnas.nn.config.choice import Choice
from dynnas.nn.config.scales import Scales

RECURRENT_UNITS = 10
"""Of the LSTM, in and out (SkipNet, section 3.2)."""

STATIC, NONE, RELU = Choice("static"), Choice("none"), Choice("relu")

RESOLUTION_SLOT = "resolution"
"""Of what chooses it for each image."""

FOCUS_SLOT = "focus"
"""Of what says where to look closer."""

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
    """The LSTM of `units` that gates share; the image, of `in_channels`, goes by it."""

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
        """Whether an image decides how much of the block it runs."""
        return self.gate != NONE

    @property
    def gate_reads(self) -> str:
        """What the gate looks at: the block's own input where nothing else is said."""
        return str(self.gate.get("reads", "block"))

    def without_gate(self) -> BlockConfig:
        """Return the same block, all of it run by every image."""
        return replace(self, gate=NONE)

    @property
    def read_channels(self) -> int:
        """Channels that a classifier behind the block reads: all, or of several scales the coarsest."""
        return self.scales.coarsest if self.scales else self.out_channels


@dataclass(frozen=True)
class ExitConfig:
    """A classifier after an inner block: 1x1 convolution, batch norm, activation, pooling, linear.

    `criterion` is how sure it is of an image; `learned` has weights of its own.
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
    """What chooses for each image at which of some resolutions all of the network runs.

    `sizes` are these, the lowest first; `target` is the share of the largest one's multiply-adds to be used.
    """

    in_channels: int
    sizes: tuple[int, ...]
    target: float

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Their names, as of a gate's."""
        return tuple(map(str, self.sizes))

    @property
    def words(self) -> str:
        """The sizes to be read: `14, 20 or 28`."""
        return f"{', '.join(self.alternatives[:-1])} or {self.alternatives[-1]}"


@dataclass(frozen=True)
class GlanceConfig:
    """What makes a glance of an image: from `given` to `size` pixels along each side."""

    in_channels: int
    given: int
    size: int


@dataclass(frozen=True)
class FocusConfig:
    """What says of the maps of a glance where to look closer."""

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
    """An exit: the slot after which it stands, and how sure of an image it must be for it to leave there."""

    name: str
    after: str
    config: ExitConfig
    threshold: float

    @property
    def slot(self) -> str:
        """The name under which the supernet shares this exit's weights."""
        return f"exits.{self.name}"

    @property
    def criterion(self) -> str:
        """By what it is told how sure the exit is."""
        return self.config.criterion


@dataclass(frozen=True)
class NetworkConfig:
    """A network: input (`channels`, `resolution`, `resolution`), stem, blocks and exits in order, head.

    It has a `policy` network, and a `recurrent` one, where a gate reads it.
    With a `choice` of resolutions, `resolution` is the largest; there are then neither exits nor gates. With
    a `glance` it is that of which parts are seen, the exit is behind the blocks, and no block has a gate.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.resolution, self.resolution

    @property
    def dynamic(self) -> bool:
        """Whether any weight, or what is run, depends on the input image."""
        from dynnas.nn.kernels.kernel import KERNELS  # needs torch, which values do not

        return self.branches or any(KERNELS[block.op.name].input_dependent for _, block in self.blocks)

    @property
    def branches(self) -> bool:
        """Whether images may differ in what they run: by exits or gates."""
        return bool(self.exits) or self.decides

    @property
    def decides(self) -> bool:
        """Whether a gate decides for each image what it runs: of a block, or at which resolution."""
        return bool(self.gated) or self.choice is not None

    @property
    def gated(self) -> tuple[tuple[str, BlockConfig], ...]:
        """The blocks with a gate and their slots, in the order in which they run."""
        return tuple((slot, block) for slot, block in self.blocks if block.gated)

    def without_gates(self) -> NetworkConfig:
        """Return the same network, all of whose blocks every image runs, at the largest resolution."""
        blocks = tuple((slot, block.without_gate()) for slot, block in self.blocks)
        return replace(self, blocks=blocks, policy=None, recurrent=None, choice=None)

    @property
    def sizes(self) -> str:
        """In what resolutions it sees an image, to be read."""
        if self.choice:
            return self.choice.words
        return f"{self.glance.size} of {self.resolution}" if self.glance else str(self.resolution)

    def without_glance(self) -> NetworkConfig:
        """Return the same network, which sees the whole image once, at its resolution."""
        if self.glance is None:
            return self
        head = replace(self.head, in_channels=self.blocks[-1][1].read_channels)
        return replace(self, exits=(), head=head, glance=None)

    def at(self, resolution: int) -> NetworkConfig:
        """Return the same network at one resolution for all images."""
        return replace(self, resolution=resolution, choice=None)

    @property
    def before(self) -> tuple[tuple[str, SlotConfig], ...]:
        """The slots that run before the first block, in order."""
        policy = (("policy", self.policy),) if self.policy else ()
        recurrent = (("recurrent", self.recurrent),) if self.recurrent else ()
        return (*recurrent, *policy, ("stem", self.stem))

    def slots(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Return every slot with its config: those before the blocks, blocks, exits, head, and the
        resolution's.

        What looks closer after a glance has slots of its own: where, stem and blocks.
        """
        exits = tuple((place.slot, place.config) for place in self.exits)
        choice = ((RESOLUTION_SLOT, self.choice),) if self.choice else ()
        return (*self.looking, *exits, *self.focusing, (self.head_slot, self.head), *choice)

    @property
    def looking(self) -> tuple[tuple[str, SlotConfig], ...]:
        """Those before the blocks, and the blocks."""
        return (*self.before, *self.blocks)

    @property
    def focusing(self) -> tuple[tuple[str, SlotConfig], ...]:
        """What says where to look after a glance, and stem and blocks for that part; empty without one."""
        if self.glance is None:
            return ()
        where = FocusConfig(self.blocks[-1][1].read_channels)
        return ((FOCUS_SLOT, where), *((f"{FOCUS_SLOT}.{slot}", each) for slot, each in self.looking))

    @property
    def head_slot(self) -> str:
        """Behind a glance, the head reads the maps of both looks."""
        return "head" if self.glance is None else f"{FOCUS_SLOT}.head"
