"""Short ways to write the configs that these tests need."""

from dynnas.nn.kernels.kernel import KERNELS
from dynnas.space.config.network import (
    BlockConfig,
    ExitConfig,
    ExitPlace,
    HeadConfig,
    NetworkConfig,
    StemConfig,
)
from dynnas.space.knob import names


def block(
    kind,
    op="static",
    in_channels=8,
    out_channels=8,
    stride=1,
    kernel=3,
    expand=1.0,
    bank=4,
    attention="none",
    activation="relu",
    rank=None,
    splits=2,
):
    knobs = names(KERNELS[op].knobs)
    experts, group = (bank if name in knobs else None for name in ("experts", "group"))
    return BlockConfig(
        kind,
        in_channels,
        out_channels,
        stride,
        kernel,
        expand,
        op,
        experts,
        group,
        attention,
        activation,
        rank=rank,
        splits=splits if "splits" in knobs else None,
    )


def network(exits=(), ops=("static", "static")):
    """8x8 grey images, a stem of 6, blocks of 8 and 10 channels; `exits` are thresholds after the first."""
    blocks = (
        ("stage1.0", block("mbconv", ops[0], 6, 8, stride=2, expand=2.0)),
        ("stage2.0", block("dwsep", ops[1], 8, 10)),
    )
    places = tuple(
        ExitPlace(f"stage1-{index}", "stage1.0", ExitConfig(8, 12, "relu", 5), threshold)
        for index, threshold in enumerate(exits)
    )
    stem, head = StemConfig(1, 6, 3, 1, "hswish"), HeadConfig(10, 16, "relu", 0.2, 5)
    return NetworkConfig(1, 5, 8, stem, blocks, places, head)
