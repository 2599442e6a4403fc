"""Design rules of the literature on fast networks, and the places where a network breaks them.

Four are the guidelines of ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164, section 2): equal channels before
and behind a convolution, few groups, few branches, little element-wise work. The fifth is that of networks
for small memories: little work at high resolution (MCUNetV2: Lin et al. 2021, arXiv:2110.15352). They say
what costs time that multiply-adds do not tell. What each costs is measured by `tests/bench/design_rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dynnas.nn.config.network import BlockConfig, NetworkConfig, SlotConfig
from dynnas.nn.layers.unfilled import unfilled
from dynnas.nn.networks.layer_features import Piece, pieces_of
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import build, stretches

UNEQUAL = 4
"""Ratio of channels from which a 1x1 convolution is unequal; ShuffleNetV2's table 1 has up to 12."""

ELEMENTWISE = 0.05
"""Element-wise values for each multiply-add from which a block is said to have many."""

EARLY_STRIDE, EARLY_SHARE, EARLY_SIDE = 2, 0.3, 56
"""Stride up to which maps are of high resolution, the share of all multiply-adds that is much there, and the
least side in pixels of such maps.
"""

BRANCHES = 3
"""Convolutions on one map from which a block is said to have branches; two are a block and its shortcut."""

_ELEMENTWISE = frozenset(
    (
        "add",
        "sub",
        "mul",
        "div",
        "maximum",
        "where",
        "clamp",
        "relu",
        "hardtanh",
        "leaky_relu",
        "gelu",
        "sigmoid",
        "hardsigmoid",
        "tanh",
        "silu",
        "hardswish",
    )
)


@dataclass(frozen=True)
class Convolution:
    """A convolution as it ran on one image.

    Attributes:
        before, after: channels. kernel, stride, groups: as in torch. height, width: of its output.
        source: tells the maps apart that convolutions read. part: whether it reads a part of the channels.
    """

    before: int
    after: int
    kernel: int
    stride: int
    groups: int
    height: int
    width: int
    source: int
    part: bool = False

    @property
    def places(self) -> int:
        """The number of pixels of its output."""
        return self.height * self.width

    @property
    def macs(self) -> int:
        """The multiply-adds."""
        return self.places * self.after * self.before // self.groups * self.kernel**2

    @property
    def traffic(self) -> float:
        """The values that a 1x1 convolution moves, over those that one of equal channels would.

        h w (c1 + c2) + c1 c2 / g over its least for the same multiply-adds B, 2 sqrt(h w B) + B / (h w)
        (equations 1 to 3 of ShuffleNetV2).
        """
        moved = self.places * (self.before + self.after) + self.before * self.after / self.groups
        macs = self.macs
        return moved / (2 * (self.places * macs) ** 0.5 + macs / self.places)


@dataclass
class Operations:
    """The operations of a module on one image.

    Attributes:
        convolutions: those whose output has more than one pixel. elementwise: values of maps that
            element-wise operations made.
        macs: multiply-adds of all convolutions.
    """

    convolutions: list[Convolution] = field(default_factory=list)
    elementwise: int = 0
    macs: int = 0


@dataclass(frozen=True)
class Break:
    """A place where a rule is broken.

    Attributes:
        rule: its name. place: the slot, such as `stage1.0`. says: what is there.
        degree: how much: a ratio, a number or a share, by the rule.
    """

    rule: str
    place: str
    says: str
    degree: float


class _Recorder(TorchDispatchMode):
    """Keeps what runs, while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Operations()
        self._read: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "convolution" and isinstance(output, Tensor) and output.ndim == 4:
            self._add(args[0], args[1], args[3][0], args[8], output)
        elif name.rstrip("_") in _ELEMENTWISE and isinstance(output, Tensor) and output.ndim == 4:
            pixels = output.shape[2] * output.shape[3]
            self.found.elementwise += output[0].numel() if pixels > 1 else 0
        return output

    def _add(self, x: Tensor, weight: Tensor, stride: int, groups: int, output: Tensor) -> None:
        whole = x if x._base is None else x._base
        sources = [at for at, read in enumerate(self._read) if read is whole]
        if not sources:
            self._read.append(whole)
        height, width = output.shape[2:]
        made = Convolution(
            x.shape[1], output.shape[1], weight.shape[2], stride, groups,
            height, width, sources[0] if sources else len(self._read) - 1, x.shape[1] < whole.shape[1],
        )  # fmt: skip
        self.found.macs += made.macs
        if made.places > 1:
            self.found.convolutions.append(made)


def operations_of(module: nn.Module, x: Tensor) -> Operations:
    """Return the operations of a module on one image (1, C, H, W), whose values do not matter."""
    with torch.no_grad(), _Recorder() as recorder:
        module(x)
    return recorder.found


def breaks_of(config: NetworkConfig) -> Sequence[Break]:
    """Return where the network of `config` breaks a rule, in order."""
    found: list[Break] = []
    early, total, places = 0, 0, []
    side = max(config.shape[1:])
    for name, piece in _named(config):
        operations = operations_of(*_built(piece))
        total += operations.macs
        seen = max((max(c.height, c.width) for c in operations.convolutions), default=1)
        if seen * EARLY_STRIDE >= side and seen >= EARLY_SIDE:
            early += operations.macs
            places.append(name)
        if isinstance(piece.config, BlockConfig):
            found += block_breaks(name, operations)
    if places and total and early / total > EARLY_SHARE:
        says = f"{early / total:.0%} of the multiply-adds at stride {EARLY_STRIDE} or less"
        found += [Break("early high resolution", place, says, early / total) for place in places]
    return found


def block_breaks(place: str, operations: Operations) -> Iterator[Break]:
    """Yield the rules that a block breaks, each once."""
    convolutions = operations.convolutions
    plain = [each for each in convolutions if each.kernel == 1 and each.groups == 1]
    unequal = [each for each in plain if _ratio(each) >= UNEQUAL]
    if unequal:
        worst = max(unequal, key=_ratio)
        times = f"{worst.traffic:.1f} times the memory traffic of equal ones"
        says = f"1x1 from {worst.before} to {worst.after} channels: {times}"
        yield Break("unequal channels", place, says, _ratio(worst))
    grouped = [each.groups for each in convolutions if 1 < each.groups < each.before]
    parts = [each.source for each in convolutions if each.part]
    grouped += [count for count in map(parts.count, parts) if count > 1]  # a convolution for each group
    if grouped:
        yield Break("groups", place, f"{max(grouped)} groups", float(max(grouped)))
    sources = [each.source for each in convolutions if each.stride == 1 and not each.part]
    branches = max(map(sources.count, sources), default=0)
    if branches >= BRANCHES:
        yield Break("branches", place, f"{branches} convolutions read one map", float(branches))
    if operations.macs and operations.elementwise / operations.macs >= ELEMENTWISE:
        share = operations.elementwise / operations.macs
        yield Break("element-wise work", place, f"a value for {1 / share:.0f} multiply-adds", share)


def _ratio(convolution: Convolution) -> float:
    channels = convolution.before, convolution.after
    return max(channels) / min(channels)


def _named(config: NetworkConfig) -> Iterator[tuple[str, Piece]]:
    """Yield the slots of stem and blocks with their names and inputs."""
    slots: dict[int, str] = {}
    names: list[tuple[str, SlotConfig]] = [pair for stretch in stretches(config) for pair in stretch.body]
    pieces = [piece for stretch in pieces_of(config) for piece in stretch[:-1]]
    offset = len(pieces) - len(names)  # what chooses a resolution stands before all else
    for at, (name, _) in enumerate(names):
        slots[at + offset] = name
    for at, piece in enumerate(pieces):
        if at in slots:
            yield slots[at], piece


def _built(piece: Piece) -> tuple[nn.Module, Tensor]:
    config = piece.config
    if isinstance(config, BlockConfig) and config.gated:
        config = config.without_gate()
    with unfilled():
        module = build(config).eval()
        settle(module)
        return module, torch.zeros(1, *piece.shape)
