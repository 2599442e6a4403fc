"""Export of finished networks, as folders that ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynnas.lazy import lazy

if TYPE_CHECKING:
    from dynnas.export.bundle import export_model, verify_bundle
    from dynnas.export.formats import FORMATS
    from dynnas.export.formats.checkpoint import load_checkpoint
    from dynnas.export.formats.safetensors import load_safetensors
    from dynnas.export.switchable.bundle import export_switchable
    from dynnas.export.switchable.model import load_switchable

__all__ = [
    "FORMATS",
    "export_model",
    "export_switchable",
    "load_checkpoint",
    "load_safetensors",
    "load_switchable",
    "verify_bundle",
]

# Imported when they are asked for: the command line lists formats and must not wait for torch.
_HOMES = {
    "FORMATS": "formats",
    "export_model": "bundle",
    "verify_bundle": "bundle",
    "load_checkpoint": "formats.checkpoint",
    "load_safetensors": "formats.safetensors",
    "export_switchable": "switchable.bundle",
    "load_switchable": "switchable.model",
}

__getattr__ = lazy(__name__, _HOMES)
