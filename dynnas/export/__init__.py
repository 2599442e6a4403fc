"""Finished networks as folders that ship."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynnas.export.bundle import export_model, verify_bundle
    from dynnas.export.formats import FORMATS
    from dynnas.export.formats.checkpoint import load_checkpoint
    from dynnas.export.formats.safetensors import load_safetensors

__all__ = ["FORMATS", "export_model", "load_checkpoint", "load_safetensors", "verify_bundle"]

# Imported when they are asked for: the command line lists formats and must not wait for torch.
_HOMES = {
    "FORMATS": "formats",
    "export_model": "bundle",
    "verify_bundle": "bundle",
    "load_checkpoint": "formats.checkpoint",
    "load_safetensors": "formats.safetensors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
