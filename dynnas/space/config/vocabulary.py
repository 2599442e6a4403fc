"""The words of the space language: every knob, what it may be, its default, and where it applies.

Parser, genes and JSON Schema are made from these tables; a new knob of a layer or a new op is a line here.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.settings.rule import Rule
from dynnas.space.knob import Knob, When, whole

FIXED_OPS = ("static", "hypernet")  # the same for all images

# In the order of capacity: `smallest` takes the first, `largest` the last of those that a space allows.
BLOCKS = (
    "shuffle_v1",
    "shuffle_v2",
    "fire",
    "lowrank",
    "conv",
    "dwsep",
    "sepconv",
    "bottleneck",
    "ghost",
    "mbconv",
    "basic",
    "fused_mbconv",
)
DENSE_BLOCK = "msd"  # fills a stage: its layers pass on maps of several scales
MIXING_OPS = ("condconv", "dyconv", "dynet", "dynet_layer", "weightnet")
OPS = (*FIXED_OPS, "deformable", "pac", "dfn", *MIXING_OPS)
ATTENTIONS = ("none", "eca", "se", "cbam")
# What an image may leave out of a block; a block that leaves out nothing has the most capacity.
GATES = ("skip", "halt", "positions", "tree", "routes", "width", "channels", "moe", "none")
# What a gate looks at. Not `positions`, which tells places apart, nor `moe`, whose noise hangs on the input.
READS = ("block", "policy", "recurrent")
RECURRENT_UNITS = 10  # of the LSTM, in and out (SkipNet, section 3.2)
READING_GATES = ("skip", "halt", "tree", "routes", "width", "channels")
CRITERIA = ("confidence", "entropy", "learned")
ACTIVATIONS = ("relu", "relu6", "hswish", "silu", "dyrelu_a", "dyrelu_b")

EXPANDING_BLOCKS = ("ghost", "mbconv", "fused_mbconv")
RANKED_BLOCKS = ("lowrank",)
# Blocks that have other weights where their output is of another shape than their input.
RESHAPING_BLOCKS = ("shuffle_v1", "shuffle_v2", "sepconv", "bottleneck", "ghost", "basic")
# Blocks with channels of their own between their convolutions, of which an image may use a part.
HIDDEN_BLOCKS = ("bottleneck", "mbconv", "basic", "fused_mbconv")
HIDDEN_GATES = ("tree", "routes", "width", "channels", "moe")
# Gates that put the block's input in the place of its output, or average them: both must be of one shape.
KEEPING_GATES = ("skip", "halt", "positions")
EXPERT_OPS = ("condconv", "dyconv")
GROUP_OPS = ("dynet", "dynet_layer", "weightnet")
SPLIT_OPS = ("weightnet",)

# Pairs of block and kernel op that make no sense, and why: a layer that could draw one is an error.
REFUSED: Mapping[tuple[str, str], str] = {
    (block, "dfn"): "it generates depthwise filters, and the block has no depthwise convolution"
    for block in ("fire", "lowrank", "conv", "bottleneck", "basic", "fused_mbconv")
} | {(DENSE_BLOCK, op): "its kernels are static" for op in OPS if op != "static"}

# Likewise of a gate and the value of another knob of its layer.
_WHOLE_IMAGE = "it looks at the whole image, and a tile is to be computed from what lies around it"
REFUSED_GATES: Mapping[tuple[str, str, str], str] = {
    **{
        ("block", block, gate): "the block has no channels of its own between its convolutions"
        for block in BLOCKS
        for gate in HIDDEN_GATES
        if block not in HIDDEN_BLOCKS
    },
    **{
        ("block", DENSE_BLOCK, gate): "its layers are read by all later ones"
        for gate in GATES
        if gate != "none"
    },
    **{("op", op, "positions"): _WHOLE_IMAGE for op in OPS if op not in FIXED_OPS},
    **{("attention", name, "positions"): _WHOLE_IMAGE for name in ATTENTIONS if name != "none"},
    **{("activation", name, "positions"): _WHOLE_IMAGE for name in ("dyrelu_a", "dyrelu_b")},
}

# Channels that a block needs at least, in and out, because it cuts them into parts; 1 where not listed.
LEAST_WIDTH: Mapping[str, int] = {"shuffle_v1": 4, "shuffle_v2": 4, "fire": 2, "ghost": 2}

MAX_STAGES = 32
MAX_DEPTH = 64
MAX_EXITS = 8  # exits.at lists subsets of the positions
MAX_SIZES = 8  # resolutions to choose from per image: a training runs all of them
MAX_VALUES = 1000  # of one knob
MAX_CHOICES = 2000  # knobs of a plain space


_KERNEL = Rule(int, minimum=1, maximum=31, odd=True)
_WIDTH = whole(1, 8192)
_ACTIVATION = Rule(str, choices=ACTIVATIONS)

CHANNELS = Knob("channels", whole(1, 4096), "channels of an input image; taken from the data if not given")
CLASSES = Knob("classes", whole(2, 1_000_000), "classes to tell apart; taken from the data if not given")
RESOLUTIONS = Knob("resolutions", whole(1, 2048), "side of the square input image, in pixels")

# In the order of capacity, as gates: an image that is not looked at less closely comes last.
FIXED, PER_IMAGE, GLANCE = "fixed", "per_image", "glance"
RESOLUTION_CHOICE = (
    Knob(
        "choose",
        Rule(str, choices=(PER_IMAGE, GLANCE, FIXED)),
        "whether all images have one of the resolutions (fixed), a predictor chooses for each image "
        "(per_image), or each is seen whole at a lower one and, unless that suffices, a part of it of so "
        "many pixels at the largest (glance); the last two have no other gates and exits",
        default=FIXED,
    ),
    Knob(
        "target",
        Rule(float, minimum=0.05, maximum=1),
        "share of the largest resolution's multiply-adds to be used, in the mean over images",
        default=0.5,
        when=When("choose", (PER_IMAGE,)),
    ),
    Knob(
        "thresholds",
        Rule(float, minimum=0, maximum=1),
        "how sure the classifier of a glance is, by its largest softmax, when an image leaves",
        default=0.8,
        when=When("choose", (GLANCE,)),
    ),
)

STEM = (
    Knob("width", _WIDTH, "output channels"),
    Knob("kernel", _KERNEL, "kernel size", default=3),
    Knob("stride", whole(1, 8), "stride", default=1),
    Knob("activation", _ACTIVATION, "activation", default="relu"),
)

STAGE = (
    Knob("depth", whole(1, MAX_DEPTH), "number of blocks", default=1),
    Knob("width", _WIDTH, "output channels of every block; of msd, channels it adds to the finest scale"),
    Knob("stride", whole(1, 8), "stride of the first block", default=1),
)

LAYER = (
    Knob("block", Rule(str, choices=(*BLOCKS, DENSE_BLOCK)), "kind of block", default="mbconv"),
    Knob("kernel", _KERNEL, "kernel size", default=3),
    Knob(
        "expand",
        Rule(float, minimum=1, maximum=32),
        "inner channels of a block over its input channels",
        default=4.0,
        when=When("block", EXPANDING_BLOCKS),
    ),
    Knob(
        "rank",
        Rule(float, minimum=0.01, maximum=1),
        "rank of the kernel over the output channels",
        default=0.25,
        when=When("block", RANKED_BLOCKS),
    ),
    Knob("op", Rule(str, choices=OPS), "how the convolutions' weights depend on the image", default="static"),
    Knob("experts", whole(1, 64), "kernels that are mixed", default=4, when=When("op", EXPERT_OPS)),
    Knob(
        "group", whole(1, 64), "kernels mixed for each output channel", default=4, when=When("op", GROUP_OPS)
    ),
    Knob(
        "splits",
        whole(1, 64),
        "parts of a kernel, along its input channels, that are mixed each on its own",
        default=2,
        when=When("op", SPLIT_OPS),
    ),
    Knob("attention", Rule(str, choices=ATTENTIONS), "channel attention", default="none"),
    Knob("activation", _ACTIVATION, "activation", default="relu"),
    Knob(
        "gate",
        Rule(str, choices=GATES),
        "what an image may leave out of the block; a stage's first block is not skipped, in no position",
        default="none",
    ),
    Knob(
        "gate_target",
        Rule(float, minimum=0.05, maximum=1),
        "share of the block's multiply-adds to be used, in the mean over images",
        default=0.5,
        when=When("gate", ("none",), excluded=True),
    ),
    Knob(
        "gate_reads",
        Rule(str, choices=READS),
        "what the gate looks at: the block's own input, what one policy network says of the image, or what "
        "an LSTM says that has seen the inputs of all such blocks so far",
        default="block",
        when=When("gate", READING_GATES),
    ),
    Knob(
        "gate_experts",
        whole(2, 64),
        "experts that the block's inner channels are shared out to",
        default=4,
        when=When("gate", ("moe",)),
    ),
    Knob(
        "gate_tiles",
        whole(2, 8),
        "tiles that the image is cut into, along each side",
        default=2,
        when=When("gate", ("positions",)),
    ),
)

# The network that gates may read, one value: what is searched is which gates do.
POLICY = (
    Knob(
        "width",
        whole(4, 1024),
        "numbers that it says of an image, and channels of the last two of its four convolutions",
        default=32,
    ),
)

# Of a stage of `msd`, one value each: what is searched of it is width, depth and kernel.
DENSE = (
    Knob(
        "scales", whole(1, 6), "resolutions, each half of the one before, with twice the channels", default=3
    ),
    Knob(
        "finest",
        whole(0, 5),
        "finest scale that the stage computes: rising over the stages as in MSDNet, falling as in RANet",
        default=0,
    ),
    Knob(
        "links",
        Rule(str, choices=("down", "both")),
        "which neighbours a scale sees: the next finer one (down), or the next coarser one too (both)",
        default="down",
    ),
    Knob(
        "bottleneck",
        whole(0, 64),
        "channels of a 1x1 convolution before each convolution, over those which that makes on the finest "
        "scale, doubled with every further one; 0 for none",
        default=1,
    ),
    Knob(
        "keep",
        Rule(float, minimum=0.01, maximum=1),
        "part of its channels that a scale is brought down to after the stage's first layer",
        default=1.0,
    ),
)

HEAD = (
    Knob("width", whole(0, 8192), "channels of the 1x1 convolution before pooling; 0 for none", default=0),
    Knob(
        "activation", _ACTIVATION, "its activation", default="relu", when=When("width", (0,), excluded=True)
    ),
    Knob("dropout", Rule(float, minimum=0, maximum=0.95), "dropout before the classifier", default=0.0),
)

# `count` chooses how many of the positions have an exit; its default is every number of them.
EXIT_COUNT = Knob("count", whole(0, MAX_EXITS), "how many exits a network has")
_EXITS_WANTED = When("count", (0,), excluded=True)
EXITS = (
    Knob(
        "thresholds",
        Rule(float, minimum=0, maximum=1),
        "how sure an exit is, from 0 to 1, when an image leaves",
        default=0.8,
        when=_EXITS_WANTED,
    ),
    Knob("width", _WIDTH, "channels of the 1x1 convolution of an exit", default=64, when=_EXITS_WANTED),
    Knob("activation", _ACTIVATION, "its activation", default="relu", when=_EXITS_WANTED),
    Knob(
        "criterion",
        Rule(str, choices=CRITERIA),
        "how sure an exit is: its largest softmax (confidence), 1 - entropy / log(classes) (entropy), or "
        "what a gate beside the classifier says that was trained for it (learned)",
        default="confidence",
        when=_EXITS_WANTED,
    ),
)
