"""The formats in which a network ships, one a file; plug-ins add theirs by entry points `dynnas.formats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynnas.errors import ExportError
from dynnas.registry import Registry

if TYPE_CHECKING:
    from dynnas.export.formats.format import Format

FORMATS: Registry[type[Format]] = Registry(
    "format", group="dynnas.formats", package="dynnas.export.formats", error=ExportError
)
"""Classes of `dynnas.export.formats.format.Format` by their names."""
