"""Every technique has a method card, whose formulas give what the code counts."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from support.markdown import ROOT
from support.scripts import load_script
from torch import nn

from dynnas.nn import Conv2d, block
from dynnas.nn.config.network import ExitConfig, FocusConfig, PolicyConfig, RecurrentConfig, ResolutionConfig
from dynnas.nn.gates.gate import Gated
from dynnas.nn.networks.network import build

CARDS = load_script(ROOT / "docs/cards.py")
WRITTEN = CARDS.cards()
KINDS = ("kernels", "attentions", "activations", "gates", "networks")


def all_cards() -> Iterator[Any]:
    for kind in KINDS:
        for name in WRITTEN[kind]:
            yield pytest.param(kind, name, id=f"{kind}-{name}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "networks"])
def test_every_registered_class_has_a_card(kind: str) -> None:
    assert set(WRITTEN[kind]) == set(CARDS.registries()[kind])


@pytest.mark.parametrize("kind", CARDS.PAGES)
def test_every_card_is_on_its_page(kind: str) -> None:
    page = (ROOT / f"docs/methods/{kind}.md").read_text(encoding="utf-8")
    names = CARDS.registries().get(kind) or WRITTEN[kind]
    assert [line[4:-1] for line in page.splitlines() if line.startswith("## ")] == list(names)


@pytest.mark.parametrize(("kind", "name"), list(all_cards()))
def test_a_card_says_all_that_is_asked_of_it(kind: str, name: str) -> None:
    card = WRITTEN[kind][name]
    assert {"title", "says", "formula", "pays"} <= set(card)
    assert ("params" in card) == ("macs" in card)
    assert "onnx" in card or kind == "gates"
    assert card["says"].count(". ") <= 1, "a card says two sentences"
    found = CARDS.registries().get(kind, {}).get(name)
    if getattr(found, "paper", "") or kind == "networks":
        assert "venue" in card


NAMES = {"ceil": math.ceil, "int": int, "log2": math.log2, "max": max, "min": min}


def evaluated(card: Mapping[str, Any], values: Mapping[str, int]) -> tuple[int, int]:
    """The weights and multiply-adds by the formulas of a card."""
    known = {**NAMES, **values}
    for key, text in card.get("let", {}).items():
        known[key] = eval(text, {"__builtins__": {}}, known)
    return tuple(eval(card[key], {"__builtins__": {}}, known) for key in ("params", "macs"))  # type: ignore[return-value]


def count(module: nn.Module, *shape: int) -> tuple[int, int]:
    """The weights and multiply-adds by the code."""
    found: tuple[int, int] = CARDS.count(module, *shape)
    return found


def added(own: tuple[int, int], plain: tuple[int, int]) -> tuple[int, int]:
    return own[0] - plain[0], own[1] - plain[1]


CONVS = [(32, 48, 3, 1, 14), (24, 24, 5, 24, 8), (12, 24, 1, 2, 6)]
"""Ci, Co, k, groups, and the side of the maps."""


def kernels() -> Iterator[Any]:
    for name, card in WRITTEN["kernels"].items():
        for shape in CONVS:
            if not card.get("depthwise") or shape[0] == shape[3]:
                yield pytest.param(name, shape, id=f"{name}-{shape}")


OWN_KNOBS = {"regions": 3, "margin": 2, "heads": 3, "kept_inputs": 0.4}


@pytest.mark.parametrize(("name", "shape"), list(kernels()))
def test_costs_of_kernels(name: str, shape: tuple[int, ...]) -> None:
    before, after, kernel, groups, side = shape
    card, knobs = WRITTEN["kernels"][name], {"experts": 3, "group": 2, "splits": 2, **OWN_KNOBS}
    geometry = {"padding": kernel // 2, "groups": groups, "bias": False}
    plain = Conv2d(before, after, kernel, **geometry)  # type: ignore[arg-type]
    own = Conv2d(before, after, kernel, **geometry, op=name, **knobs)  # type: ignore[arg-type]
    values = {"Ci": before, "Co": after, "k": kernel, "g": groups, "H": side, "W": side, **knobs}
    values["P"] = before * after // groups * kernel**2
    counted = added(count(own, before, side, side), count(plain, before, side, side))
    assert evaluated(card, values) == counted


@pytest.mark.parametrize("channels", [32, 10, 96])
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("attentions", "activations") for name in WRITTEN[kind]]
)
def test_costs_of_attentions_and_activations(kind: str, name: str, channels: int) -> None:
    made = CARDS.registries()[kind][name](channels)
    values = {"C": channels, "H": 9, "W": 7}
    assert evaluated(WRITTEN[kind][name], values) == count(made, channels, 9, 7)


@pytest.mark.parametrize("channels", [32, 12])
@pytest.mark.parametrize("name", WRITTEN["gates"])
def test_costs_of_gates(name: str, channels: int) -> None:
    knobs: dict[str, Any] = {"expand": 2, "gate_experts": 3, "gate_tiles": 4}
    gated = block("mbconv", channels, channels, gate=name, **knobs)
    assert isinstance(gated, Gated)
    plain = count(block("mbconv", channels, channels, **knobs), channels, 12, 12)
    values = {"C": channels, "D": 2 * channels, "H": 12, "W": 12, "experts": 3, "tiles": 4}
    assert evaluated(WRITTEN["gates"][name], values) == added(count(gated, channels, 12, 12), plain)


NETWORKS = {
    "exits": (ExitConfig(24, 40, "relu", 7), (24, 9, 9), {"C": 24, "w": 40, "classes": 7, "H": 9, "W": 9}),
    "resolution": (
        ResolutionConfig(3, (14, 20, 28), 0.5),
        (3, 28, 28),
        {"Ci": 3, "sizes": 3, "r": 14, "R": 28},
    ),
    "glance": (FocusConfig(24), (24, 9, 9), {"C": 24, "H": 9, "W": 9}),
    "policy": (PolicyConfig(3, 18, 10), (3, 28, 28), {"Ci": 3, "w": 18, "R": 28}),
    "recurrent": (RecurrentConfig(3, 10), (3, 8, 8), {"u": 10}),
}
"""What decides for a network: its config, its input, and the values of the card's formulas."""


def test_the_files_and_tests_of_the_literature_are_there() -> None:
    table = (ROOT / "docs" / "literature.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ") and "/" in line]
    assert len(rows) > 40
    for name, files, tests, *_ in rows:
        for cell, folder in ((files, "dynnas/"), (tests, "tests/")):
            found = re.findall(r"`([^`]+)`", cell)
            assert found, name
            assert [path for path in found if not path.startswith(folder) or not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", [name for name, card in WRITTEN["networks"].items() if "params" in card])
def test_costs_of_deciding_for_a_network(name: str) -> None:
    config, shape, values = NETWORKS[name]
    torch.manual_seed(0)
    assert evaluated(WRITTEN["networks"][name], values) == count(build(config), *shape)
