"""Networks as drawings, with a line for every layer.

They are SVG texts with colours of their own, which a page may override by the variables that they name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from dynnas.nn.config.network import BlockConfig, NetworkConfig
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS
from dynnas.report.tables.table import count

if TYPE_CHECKING:
    from dynnas.metrics.parts import Part

_STATIC, _DYNAMIC, _EXIT = "var(--static, #8a97a8)", "var(--dynamic, #d9480f)", "var(--exit, #0b7285)"
_TEXT, _FAINT = "var(--text, #1c2733)", "var(--faint, #66717f)"
_FONT = 'font-family="system-ui, sans-serif"'

_WIDTH, _LINE, _LEFT, _BAR = 320, 26, 58, 150
_NAME = 9
"""Letters of the name of a part."""

_ROOM = 195
"""Width of the space for a layer's text, whose letters are about half as wide as high."""


@dataclass(frozen=True)
class Layer:
    """One line of a drawing: a slot, or an exit behind one.

    Attributes:
        name: of the slot.
        text: what it is.
        channels: it hands on; 0 for an exit.
        resolution: of the maps that it hands on.
        kind: static, dynamic (its weights look at the image) or exit.
        note: at the end of the line.
    """

    name: str
    text: str
    channels: int
    resolution: int
    kind: str
    note: str = ""


def layers_of(config: NetworkConfig, shares: Mapping[str, float] | None = None) -> tuple[Layer, ...]:
    """Return the lines of a network in the order in which it runs.

    Args:
        config: the network.
        shares: of the images that leave at each exit, and at `head`.
    """
    return tuple(_layers(config, shares or {}))


def _layers(config: NetworkConfig, shares: Mapping[str, float]) -> Iterator[Layer]:
    stem, head = config.stem, config.head
    if choice := config.choice:
        text = f"{choice.words} to {choice.target:g}"
        yield Layer("resolution", text, config.channels, config.resolution, "dynamic", "of each image")
    if config.glance:
        yield Layer("glance", "the whole image", config.channels, config.glance.size, "static", config.sizes)
    size = (config.glance.size, config.glance.size) if config.glance else config.shape[1:]
    size = _shrunk(size, stem.stride)
    if config.policy:
        numbers = config.policy.width
        yield Layer("policy", "of the image, for gates", numbers, 1, "dynamic", f"{numbers} numbers")
    text = f"conv {stem.kernel}×{stem.kernel}"
    yield Layer("stem", text, stem.out_channels, size[0], "static", f"{stem.out_channels} ch, {_side(size)}")
    for name, block in config.blocks:
        size = _shrunk(size, block.stride)
        kind = "static" if is_static(block) else "dynamic"
        note = f"{block.out_channels} ch, {_side(size)}"
        yield Layer(name, _block_text(block), block.out_channels, size[0], kind, note)
        for place in config.exits:
            if place.after == name:
                leave = f"{100 * shares[place.name]:.0f}% leave" if place.name in shares else ""
                by = "sure" if place.criterion == "confidence" else place.criterion
                yield Layer("exit", f"if {by} by {place.threshold:g}", 0, size[0], "exit", leave)
    if config.glance:
        text = f"a part of {config.sizes}, again"
        yield Layer("focus", text, head.in_channels, size[0], "dynamic", "same layers")
    rest = f"{100 * shares['head']:.0f}% get here" if config.exits and "head" in shares else ""
    yield Layer("head", f"{config.classes} classes", head.width or head.in_channels, 1, "static", rest)


def _shrunk(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def _side(size: tuple[int, int]) -> str:
    return f"{size[0]}²" if size[0] == size[1] else f"{size[0]}×{size[1]}"


def is_static(block: BlockConfig) -> bool:
    """Tell whether a block is the same for all images, its attention aside."""
    return not block.gated and not KERNELS[block.op.name].input_dependent and not _bends(block)


def _bends(block: BlockConfig) -> bool:
    """Tell whether the block's activation depends on the image."""
    return ACTIVATIONS[block.activation.name].input_dependent


def _block_text(block: BlockConfig) -> str:
    parts = [f"{block.block} {block.kernel}×{block.kernel}"]
    if (expand := float(block.block.get("expand", 1.0))) != 1.0:
        parts.append(f"×{expand:g}")
    if block.op.name != "static":
        parts.append(" ".join([block.op.name, *(f"{size}" for _, size in block.op.params[:1])]))
    if block.attention.name != "none":
        parts.append(block.attention.name)
    if _bends(block):
        parts.append(block.activation.name)
    if block.gated:
        parts.append(f"{block.gate} to {block.gate['target']:g}")
        if block.gate_reads != "block":
            parts.append(f"by {block.gate_reads}")
    return " ".join(parts)


def draw_diagram(config: NetworkConfig, shares: Mapping[str, float] | None = None) -> str:
    """Return a network as SVG, a line for every layer: a bar's length grows with the root of its channels."""
    layers = layers_of(config, shares)
    return _draw(layers, f"Network at {config.resolution}×{config.shape[2]} pixels, layers: {len(layers)}")


def draw_parts(parts: Sequence[Part]) -> str:
    """Return a network of any class as SVG, a line for each of its named parts, with its costs."""
    layers = [
        Layer(
            name=_short(part.name),
            text=part.kind,
            channels=part.channels,
            resolution=part.resolution,
            kind="exit" if part.exit else "dynamic" if part.dynamic else "static",
            note=f"{count(part.macs)} MACs, {count(part.params)}",
        )
        for part in parts
    ]
    return _draw(layers, f"Network, parts: {len(layers)}; multiply-adds and weights of each")


def _short(name: str) -> str:
    """Return a name that fits: of a path its end, which tells parts apart."""
    if len(name) <= _NAME:
        return name
    return f"…{name[1 - _NAME :]}" if "." in name else f"{name[: _NAME - 1]}…"


def _draw(layers: Sequence[Layer], title: str) -> str:
    widest = max((layer.channels for layer in layers), default=0) or 1
    height = _LINE * len(layers) + 8
    body = "".join(_line(layer, 4 + _LINE * row, widest) for row, layer in enumerate(layers))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" aria-label="{title}" {_FONT}>{body}</svg>'
    )


def _line(layer: Layer, top: float, widest: int) -> str:
    middle = top + _LINE / 2
    label = (
        f'<text x="{_LEFT - 8}" y="{middle + 4:.4g}" text-anchor="end" font-size="11" fill="{_FAINT}">'
        f"{escape(layer.name)}</text>"
    )
    note = (
        f'<text x="{_WIDTH - 2}" y="{middle + 4:.4g}" text-anchor="end" font-size="11" fill="{_FAINT}">'
        f"{escape(layer.note)}</text>"
    )
    if layer.kind == "exit":
        path = f"M{_LEFT + 6} {top - 3:.4g}v{_LINE / 2 + 3:.4g}h12m-4 -4l4 4l-4 4"
        line = f'<path d="{path}" fill="none" stroke="{_EXIT}" stroke-width="1.8"/>'
        text = _text(_LEFT + 24, middle, layer.text, _EXIT)
        return label + line + text + note.replace(_FAINT, _EXIT)
    length = max(6.0, _BAR * math.sqrt(layer.channels / widest))
    colour = _DYNAMIC if layer.kind == "dynamic" else _STATIC
    bar = (
        f'<rect x="{_LEFT}" y="{top + 3:.4g}" width="{length:.4g}" height="{_LINE - 6}" rx="4" '
        f'fill="{colour}" opacity="{0.38 if layer.kind == "dynamic" else 0.28}"/>'
        f'<rect x="{_LEFT}" y="{top + 3:.4g}" width="3.5" height="{_LINE - 6}" rx="1.7" fill="{colour}"/>'
    )
    return bar + label + _text(_LEFT + 9, middle, layer.text, _TEXT) + note


def _text(x: float, middle: float, text: str, colour: str) -> str:
    size = min(11.5, 1.8 * _ROOM / len(text))
    return f'<text x="{x}" y="{middle + 4:.4g}" font-size="{size:.4g}" fill="{colour}">{escape(text)}</text>'


def draw_picture(drawing: str) -> str:
    """Return a drawing with a background, as a file to look at by itself."""
    start = drawing.index(">") + 1
    ground = f'<rect x="-12" y="-12" width="{_WIDTH + 24}" height="4000" fill="#ffffff"/>'
    return drawing[:start] + ground + drawing[start:]
