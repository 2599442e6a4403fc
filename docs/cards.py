"""Write the method cards: a page for each kind of operator, with a card for every registered class.

What a technique computes and when it pays is written by hand in `methods/cards.yaml`. Names, knobs,
requirements, papers and costs come from the code, and measured times from the tables that the benches write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
METHODS = Path(__file__).parent / "methods"
OPERATOR_TABLES = ROOT / "dynnas/nn/README.md"
GATE_TABLES = ROOT / "studies/dynamic-inference/README.md"

CHANNELS, SIDE, EXPAND, CLASSES = 64, 14, 4, 10
"""The layer for which added costs are given in per cent: 64 to 64 channels, 3x3, on maps of 14x14."""


PAGES = ("kernels", "attentions", "activations", "gates", "networks", "blocks")
"""The pages, a kind of operator each; `networks` holds what decides for a whole network."""


def cards() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the hand-written part, by page and name."""
    return yaml.safe_load((METHODS / "cards.yaml").read_text(encoding="utf-8"))


def registries() -> Mapping[str, Mapping[str, Any]]:
    """Return the registered classes, by page and name."""
    from dynnas.nn import ACTIVATIONS, ATTENTIONS, BLOCKS, GATES, KERNELS

    return {
        "kernels": KERNELS,
        "attentions": ATTENTIONS,
        "activations": ACTIVATIONS,
        "gates": GATES,
        "blocks": BLOCKS,
    }


def page(kind: str) -> str:
    """Return the cards of a kind, in Markdown."""
    head, written = cards()["pages"][kind], cards().get(kind, {})
    lines = [f"# {head['title']}", "", head["text"].strip()]
    for name, found in (registries().get(kind) or dict.fromkeys(written)).items():
        lines += ["", *_card(kind, name, found, written.get(name, {}))]
    return "\n".join(lines) + "\n"


def index_page() -> str:
    """Return the list of all cards, in Markdown."""
    lines = [
        "# Method cards",
        "",
        "One card for every technique: formula, paper, costs beside a static layer, what it becomes in ONNX, "
        "and when it pays by the studies of this repository.",
    ]
    for kind in PAGES:
        head, written = cards()["pages"][kind], cards().get(kind, {})
        names = registries().get(kind) or written
        lines += ["", f"## {head['title']}", "", "| name | technique | published |", "| --- | --- | --- |"]
        for name, found in names.items():
            card = written.get(name, {})
            title = card.get("title") or _first_sentence(found)
            lines.append(f"| [`{name}`]({kind}.md#{name}) | {title} | {_published(found, card)} |")
    return "\n".join(lines) + "\n"


def _card(kind: str, name: str, found: Any, card: Mapping[str, Any]) -> Iterator[str]:
    yield f"## `{name}`"
    yield ""
    says = card.get("says") or _first_sentence(found)
    title = f"**{card['title']}.** " if "title" in card else ""
    yield f"{title}{says}"
    if "formula" in card:
        yield ""
        yield f"```text\n{str(card['formula']).rstrip()}\n```"
    rows = {key: value for key, value in _rows(kind, name, found, card) if value}
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for key, value in rows.items():
        yield f"| {key} | {value} |"
    if "pays" in card:
        yield ""
        yield f"*When it pays.* {card['pays']}"


def _rows(kind: str, name: str, found: Any, card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "published", _published(found, card)
    yield "in a space file", card.get("key") or f"`{_KEYS[kind]}: {name}`"
    yield "knobs", "<br>".join(_knobs(found, "gate_" if kind == "gates" else ""))
    needed = (f"{' and '.join(each.of)} with {each.fact}" for each in getattr(found, "requires", ()))
    yield "needs", "; ".join(dict.fromkeys(needed))
    where = "; ".join(f"`{key} = {value}`" for key, value in card.get("let", {}).items())
    if "params" in card:
        yield "weights added", f"`{card['params']}`"
        yield "multiply-adds added", f"`{card['macs']}`" + (f", where {where}" if where else "")
    yield "note", str(card.get("note", ""))
    yield f"at {CHANNELS} channels, 3x3, on {SIDE}x{SIDE}", _added(kind, name)
    yield (
        "in all blocks of MobileNetV2",
        _operator(name) if kind in {"kernels", "attentions", "activations"} else "",
    )
    if kind == "blocks":
        yield "a published network of them", _operator(name)
    yield "at equal savings", _saving(card["study"]) if "study" in card else ""
    yield "in ONNX", _in_onnx(kind, found, card)
    yield "code", f"`{card.get('code') or f'{found.__module__}.{found.__qualname__}'}`"


_KEYS = {
    "kernels": "op",
    "attentions": "attention",
    "activations": "activation",
    "gates": "gate",
    "blocks": "block",
}


def _first_sentence(found: Any) -> str:
    return " ".join((found.__doc__ or "").split("\n\n")[0].split())


def _published(found: Any, card: Mapping[str, Any]) -> str:
    """Return the paper with links to arXiv, and where it appeared."""
    paper = card.get("paper") or getattr(found, "paper", "")
    linked = re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)
    return "; ".join(each for each in (linked, card.get("venue", "")) if each)


def _knobs(found: Any, prefix: str) -> Iterator[str]:
    for knob in getattr(found, "knobs", ()):
        yield f"`{prefix}{knob.name}`: {knob.help}; {knob.rule}; {knob.default} by default"


def _in_onnx(kind: str, found: Any, card: Mapping[str, Any]) -> str:
    if kind != "gates":
        return str(card.get("onnx", ""))
    config = gated_config(found.name)
    if not found.leaves_out(config):
        return "The graph computes everything and masks."
    few = (
        " (with so few sets of experts as here; else it computes everything and masks)" if found.knobs else ""
    )
    return f"An `If` with a branch for each alternative, so that an image runs its own alone{few}."


def _added(kind: str, name: str) -> str:
    """Return what a technique adds to the reference layer, in per cent, as counted on its modules."""
    if kind == "kernels":
        depthwise = bool(cards()[kind][name].get("depthwise"))
        base, own = count_kernel("static", depthwise), count_kernel(name, depthwise)
        layer = "depthwise convolution" if depthwise else "convolution"
    elif kind == "gates":
        base, own = count_gate(None), count_gate(name)
        layer = f"`mbconv` block with `expand: {EXPAND}`"
    elif kind in {"attentions", "activations"}:
        base, own = count_kernel("static", False), count_kernel("static", False)
        own = tuple(a + b for a, b in zip(own, count_maps(kind, name), strict=True))
        layer = "convolution"
    else:
        return ""
    weights, macs = (100 * (mine / plain - 1) for mine, plain in zip(own, base, strict=True))
    return f"{weights:+.1f}% weights and {macs:+.1f}% multiply-adds of a {layer}"


Count = tuple[int, ...]
"""Weights and multiply-adds."""


def count(module: Any, *shape: int) -> Count:
    """Count a module that is finished, on one input of this shape."""
    import torch

    from dynnas.nn.layers.macs import count_macs
    from dynnas.nn.networks.modes import settle

    settle(module.eval())
    weights = sum(tensor.numel() for tensor in module.parameters())
    return weights, count_macs(module, torch.zeros(1, *shape))[1]


@cache
def count_kernel(op: str, depthwise: bool) -> Count:
    """Count a convolution of the reference layer."""
    from dynnas.nn import Conv2d

    groups = CHANNELS if depthwise else 1
    layer = Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=groups, bias=False, op=op)
    return count(layer, CHANNELS, SIDE, SIDE)


@cache
def count_gate(gate: str | None) -> Count:
    """Count a block of the reference layer, with a gate that runs all of it."""
    from dynnas.nn import block

    knobs = {} if gate is None else {"gate": gate}
    return count(block("mbconv", CHANNELS, CHANNELS, expand=EXPAND, **knobs), CHANNELS, SIDE, SIDE)


def count_maps(kind: str, name: str) -> Count:
    """Count an attention or activation over maps of the reference layer."""
    return count(registries()[kind][name](CHANNELS), CHANNELS, SIDE, SIDE)


def gated_config(gate: str) -> Any:
    """Return the config of the reference block with a gate."""
    from dynnas.nn import block

    return block("mbconv", CHANNELS, CHANNELS, expand=EXPAND, gate=gate).config


@cache
def _operator_rows() -> dict[str, tuple[list[str], list[str]]]:
    """Return the rows of the operators' tables by the first name in them, each with its table's head."""
    found = {}
    text = OPERATOR_TABLES.read_text(encoding="utf-8")
    for table in re.findall(r"<!-- table \w+ -->\n(.*?)<!-- end of table -->", text, flags=re.DOTALL):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()
        )
        for row in rows:
            found[re.findall(r"`(\w+)`", row[0])[0]] = head, row
    return found


def _operator(name: str) -> str:
    head, row = _operator_rows().get(name, ([""], [""]))
    skipped = {"op", "block", "arXiv", "attention"}
    cells = [
        f"{title}: {cell}"
        for title, cell in zip(head, row, strict=True)
        if cell not in {"–", ""} and not skipped & set(re.findall(r"\w+", title))
    ]
    over = "time over `conv` blocks: " if "block" in head[0] else "time over static: "
    return re.sub(" ?[¹²³⁴]", "", "; ".join(cells)).replace("time: ", over)


@cache
def _gate_rows() -> dict[tuple[str, str], list[str]]:
    """Return the rows of the study's table of savings, by family and block."""
    text = GATE_TABLES.read_text(encoding="utf-8").partition("| family | block |")[2]
    rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()[2:])
    found = {}
    for row in rows:
        if len(row) < 8:
            break
        found[row[0], row[1]] = row
    return found


def _saving(family: str) -> str:
    """Return the share of time saved for the multiply-adds saved, by the study's bench."""
    cells = []
    for block in ("mbconv", "basic"):
        row = _gate_rows()[family, block]
        share = -int(re.findall(r"\((-?\d+)%\)", row[4])[0])
        cells.append(f"{row[2]}% fewer multiply-adds change the time by {share:+d}% with `{block}` blocks")
    return f"{'; '.join(cells)} (ONNX Runtime, one image)"
