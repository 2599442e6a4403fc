"""Networks by name: `timm:resnet18`, or `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

from dynnas.errors import MissingExtraError, SpaceError
from dynnas.tasks.importing import imported, is_reference

TIMM = "timm:"
"""Prefix of the names of timm's networks."""

_NEEDED = "needed is timm:NAME, package.module:function"


def maker_of(name: str, what: str, also: str = "") -> Callable[..., Any]:
    """Return the function or class that a name stands for.

    Args:
        what: the setting that names it, for the message. also: what else is allowed there.

    Raises:
        SpaceError: timm has no such network or cannot be imported, or it is no name.
        DataError: there is no such function.
        MissingExtraError: timm is not installed.
    """
    if name.startswith(TIMM):
        return _timms(name.removeprefix(TIMM), what)
    if not is_reference(name):
        raise SpaceError(f"{what}: {name!r} is no network; {_NEEDED}{also}")
    found = imported(name, what)
    return found if callable(found) else lambda: found


def arguments_taken(name: str, maker: Callable[..., Any]) -> Collection[str]:
    """Return the names of the arguments that a function is known to take."""
    if name.startswith(TIMM):
        return ("num_classes", "in_chans")
    try:
        return inspect.signature(maker).parameters
    except ValueError:  # some of Python's own do not say what they take
        return ()


def make_network(
    name: str, what: str, arguments: Mapping[str, Any], maker: Callable[..., Any] | None = None
) -> nn.Module:
    """Make the network of a name, or of `maker`, with these arguments.

    Raises:
        SpaceError: it raises an error or gives no module; or as `maker_of` raises.
    """
    try:
        module = (maker or maker_of(name, what))(**arguments)
    except Exception as error:  # whatever a stranger's function may raise
        if isinstance(error, SpaceError):
            raise
        given = f" with {', '.join(arguments)}" if arguments else ""
        raise SpaceError(f"{what}: {name}{given} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise SpaceError(f"{what}: {name} gives {type(module).__name__}; needed is a torch.nn.Module")
    return module


def _timms(name: str, what: str) -> Callable[..., Any]:
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what}: {TIMM}{name} needs timm, which is no part of dynnas: pip install timm"
        ) from error
    except RuntimeError as error:  # a torchvision that was built for another torch
        raise SpaceError(f"{what}: timm is installed, but cannot be imported ({error})") from error
    if not timm.is_model(name):
        raise SpaceError(f"{what}: timm has no network {name!r}; timm.list_models() names them")
    return lambda **arguments: timm.create_model(name, **arguments)
