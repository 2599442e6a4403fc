"""The JSON Schema: a legal schema that takes what the parser takes and refuses slips."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dynnas.language.problems import Problems
from dynnas.language.schema import json_schema
from dynnas.language.tree import Listing, Node, Scalar
from dynnas.language.yaml_events import read_tree

FOLDER = Path(__file__).parents[2] / "spaces"
SPACES = sorted(FOLDER.glob("*.yaml"))
MINIMAL = "input: {resolutions: 8}\nstem: {width: 8}\nstages: [{width: 16}]\n"


def plain(node: Node) -> Any:
    """The tree as an editor's YAML server sees it."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.entries}


def is_valid(text: str) -> bool:
    return Draft202012Validator(json_schema()).is_valid(plain(read_tree(text, Problems("f"))))


def test_it_is_a_legal_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_published_spaces_are_valid(path: Path) -> None:
    assert is_valid(path.read_text(encoding="utf-8"))


def test_the_examples_are_valid(example: Path) -> None:
    assert is_valid(example.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "slip",
    [
        "name: ../up",
        "serach: {trials: 3}",
        "search: {trails: 3}",
        "search: {trials: 0}",
        "search: {trials: many}",
        "search: {sampler: nsga}",
        "search: {constraints: {latency: 5}}",
        "search: {objectives: []}",
        "train: [1]",
        "head: {dropout: 1}",
        "head: {width: [64, 64]}",
        "head: {width: {from: 8, to: 16}}",
        "exits: {count: 1}",
        "exits: {positions: [1]}",
        "choices: {a: [x]}",
    ],
)
def test_slips_are_invalid(slip: str) -> None:
    assert is_valid(MINIMAL)
    assert not is_valid(MINIMAL + slip)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("width: 16", "widht: 16"),
        ("width: 16", "depth: 2"),
        ("width: 16", "width: 16, op: condcnv"),
        ("width: 16", "width: 16, kernel: 4"),
        ("width: 16", "width: 16, layers: {first: {op: static}}"),
        ("width: 16", "width: 16, layers: {0: {width: 3}}"),
        ("resolutions: 8", "resolutions: 0"),
        ("stem: {width: 8}", ""),
    ],
)
def test_slips_in_a_network_are_invalid(good: str, bad: str) -> None:
    assert good in MINIMAL
    assert not is_valid(MINIMAL.replace(good, bad))


def test_every_property_has_a_description() -> None:
    def undescribed(schema: Any, path: str) -> list[str]:
        found = []
        for name, child in schema.get("properties", {}).items():
            if "description" not in child and name not in ("from", "to", "step"):
                found.append(f"{path}.{name}")
            found += undescribed(child, f"{path}.{name}")
        return found

    assert undescribed(json_schema(), "") == []


def test_the_schema_beside_the_spaces_is_up_to_date() -> None:
    written = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(), "write it again: dynnas schema --out spaces/schema.json"


@pytest.mark.parametrize(
    ("task", "metric", "valid"),
    [("functions", "psnr", True), ("my.tasks:Restoring", "psnr", True), ("regression", "psnr", False)],
)
def test_the_metrics_of_a_task_of_your_own_are_valid(task: str, metric: str, valid: bool) -> None:
    chosen = f"search: {{objectives: [{metric}, params], constraints: {{{metric}: 3}}}}"
    text = f"{MINIMAL}data: {{task: '{task}'}}\n{chosen}"
    assert is_valid(text) is valid
    assert not is_valid(f"{MINIMAL}search: {{target: {{{metric}: 3}}}}")
