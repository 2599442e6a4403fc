"""`dynnas --help`, and the commands that need no study."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from dynnas.cli.app import _with_addresses, app

SPACES = sorted((Path(__file__).parents[2] / "spaces").glob("*.yaml"))


def test_help_loads_nothing_that_is_slow() -> None:
    """So it answers in less than 0.3 s of processor time: `tests/bench/trees.py --only help` measures it."""
    answered = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dynnas", "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in answered.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {
        "torch",
        "numpy",
        "scipy",
        "optuna",
        "sqlalchemy",
        "ray",
        "matplotlib",
        "onnx",
        "yaml",
    }


COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed_and_has_help(command: str, dynnas: Callable) -> None:
    assert f"  {command} " in dynnas("--help").out
    assert f"Usage: dynnas {command} " in dynnas(command, "--help").out


def test_flags_are_described_by_the_settings_that_they_override(dynnas: Callable) -> None:
    out = " ".join(dynnas("search", "--help").out.split())
    assert "--sampler NAME who proposes candidates (guided, evolution, autoslim, autoslim-rate," in out
    assert "--epochs N passes over the training images" in out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["search", "a.yaml", "--ray"], ["search", "a.yaml", "--ray=local"]),
        (["search", "--ray", "--quiet", "a.yaml"], ["search", "--ray=local", "--quiet", "a.yaml"]),
        (["search", "a.yaml", "--ray", "head:6379"], ["search", "a.yaml", "--ray", "head:6379"]),
    ],
)
def test_ray_without_an_address_is_a_cluster_here(words: list[str], meant: list[str]) -> None:
    assert _with_addresses(words) == meant


def test_an_address_that_is_none_is_refused(dynnas: Callable) -> None:
    found = dynnas("search", str(SPACES[0]), "--ray", "somewhere")
    assert "--ray: found somewhere" in found.err
    assert "allowed: local, auto, host:port" in found.err


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_schema_takes_the_spaces(path: Path, dynnas: Callable) -> None:
    document = json.loads(json.dumps(yaml.safe_load(path.read_text())))  # every key a text, as in JSON
    jsonschema.validate(document, json.loads(dynnas("schema").out))


def test_schema_is_written_to_a_file(tmp_path: Path, dynnas: Callable) -> None:
    out = tmp_path / "schema.json"
    assert dynnas("schema", "--out", str(out)).out == ""
    assert out.read_text() == dynnas("schema").out


def test_space_of_choices_has_genes_and_a_size(tmp_path: Path, dynnas: Callable) -> None:
    file = tmp_path / "cells.yaml"
    file.write_text("choices: {edge0: [none, conv3, conv5], edge1: [a, b], count: [1, 2, 3, 4, 5, 6]}")
    out = dynnas("space", str(file)).out
    assert "cells: 36 architectures" in out
    assert "none conv3 conv5" in out
    assert "1..6 step 1" in out
    assert "MACs" not in out
