"""A trained network in a file becomes a space file, and the module that the space file names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dynnas.errors import SpaceError
from dynnas.files import atomic_write
from dynnas.language.sections.model import model_text
from dynnas.space.space import Space
from dynnas.supernet.conversion.convert import elastic
from dynnas.training.weights.initial import load_weights
from dynnas.workflows.shelf.names import TIMM, make_network

_MODULE = '''"""The network {model} with the weights of {weights}, made elastic.

Written by `dynnas elastic`. The choices are in {space}; `network.report` says what has none, and why.
"""

from pathlib import Path

import torch

import dynnas
import {module}
from dynnas.training.weights.initial import load_weights

trained = load_weights({module}.{call}, Path(__file__).parent / {path!r})
network = dynnas.elastic(trained, torch.ones(1, {shape}){options}).model
'''


@dataclass(frozen=True)
class ElasticFiles:
    """A trained network as a space file.

    Attributes:
        space: what may be chosen; `space.model.report` says what has no choices, and why.
        file: the space file. module: the Python file that it names.
    """

    space: Space
    file: Path
    module: Path


def make_elastic_file(
    weights: Path,
    model: str,
    shape: Sequence[int],
    out: Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ElasticFiles:
    """Make a space file of a trained network, and beside it the Python module that it names.

    Args:
        weights: what `torch.load(weights_only=True)` or safetensors reads: a state dict of the network.
        model: package.module:name of a class or function that makes the network, or timm:NAME.
        arguments: of that class or function, written as Python literals.
        shape: (channels, height, width) of an image.
        out: the space file.
        options: further ones of `dynnas.elastic`.
        overwrite: whether files that are there are replaced.

    Raises:
        SpaceError: the network cannot be made or made elastic, or a file is there already.
        DataError: the model cannot be imported.
        TrainingError: the weights cannot be read, or are those of another network.
    """
    name = re.sub(r"\W", "_", out.stem)
    module = out.with_name(f"{name}_elastic.py")
    if there := [path for path in (out, module) if path.exists() and not overwrite]:
        raise SpaceError(f"{there[0]} is there already; give another --out, or --overwrite")
    network = make_network(model, "--model", arguments or {})
    given = dict(options or {})
    space = elastic(load_weights(network, weights), torch.ones(1, *shape), **given)
    space = replace(space, name=name)
    text = model_text(space, f"{module.stem}:network")
    assert text is not None
    package, call = _call(model, arguments or {})
    code = _MODULE.format(
        model=model,
        weights=weights.name,
        space=out.name,
        module=package,
        call=call,
        path=os.path.relpath(weights.resolve(), out.resolve().parent),
        shape=", ".join(map(str, shape)),
        options="".join(f", {name}={value!r}" for name, value in given.items()),
    )
    atomic_write(module, code)
    atomic_write(out, text)
    return ElasticFiles(space, out, module)


def _call(model: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Return the module to import and the call in it that make a network."""
    spelled = [f"{name}={value!r}" for name, value in arguments.items()]
    package, _, attribute = model.partition(":")
    if model.startswith(TIMM):
        return package, f"create_model({', '.join([repr(attribute), *spelled])})"
    return package, f"{attribute}({', '.join(spelled)})"
