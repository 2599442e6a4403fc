"""Finished networks as folders that ship."""

from dynnas.export.bundle import export_model, verify_bundle
from dynnas.export.formats import FORMATS
from dynnas.export.formats.checkpoint import load_checkpoint

__all__ = ["FORMATS", "export_model", "load_checkpoint", "verify_bundle"]
