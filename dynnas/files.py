"""The machine that this runs on: where its user's files lie, and what its processor is called."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cache_folder() -> Path:
    """$DYNNAS_CACHE, or `dynnas` in the user's cache folder; what lies there can be deleted at any time."""
    if folder := os.environ.get("DYNNAS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynnas"


def config_folder() -> Path:
    """`dynnas` in the folder of the user's settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dynnas"


def processor() -> str:
    """The model's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
