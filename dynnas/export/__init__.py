"""Finished networks as folders that ship."""

from dynnas.export.bundle import export_model, verify_bundle
from dynnas.export.formats import FORMATS
from dynnas.export.formats.checkpoint import load_checkpoint
from dynnas.export.formats.safetensors import load_safetensors

__all__ = ["FORMATS", "export_model", "load_checkpoint", "load_safetensors", "verify_bundle"]
